//! The store and its modules from the outside: a hub and a client that share tables, restarted, killed,
//! damaged and raced.

mod both_roles;
mod clients;
mod common;
mod damage;
mod keys;
mod kill;
mod lost_lanes;
mod marks;
mod modules;
mod outbox;
mod pads;
mod restores;
mod safety;

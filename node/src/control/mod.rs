//! The control socket: how the owner of a node talks to it.

pub mod api;

pub use api::{Chaos, Failure, KeyDelivery, KeyGet, Passphrase, Reply, Request, Seal};

//! A network of local processes on loopback, with real modules between them: hubs and clients, or nodes that are both.
//!
//! `dske testnet` keeps one until it is taken down; `dske demo` and `dske bench` have private ones. Whatever
//! goes wrong on the way up is rolled back: what was started is stopped, what was made is removed.

mod descriptor;
mod net;
mod pads;
mod plan;
mod ports;
mod private;
mod process;
mod provision;
mod readiness;
mod restart;

pub(crate) use descriptor::{Descriptor, NodeEntry};
pub(crate) use net::{Net, remove};
pub(crate) use pads::Pads;
pub(crate) use plan::Plan;
pub(crate) use private::private_root;
pub(crate) use process::{Lifetime, find, is_maker, is_running, start, stop, stop_hard};
pub(crate) use readiness::{await_node, snapshot};
pub(crate) use restart::restart;

//! The DSKE node: a libp2p mesh around the state machines of `dske-protocol` and the store of
//! `dske-storage`, with a control socket for its owner.

pub mod config;
pub mod control;
mod data_dir;
pub mod enrol;
mod me;
mod network;
pub mod status;

pub use data_dir::DataDir;
pub use me::{Me, peer_of};

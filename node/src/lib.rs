//! The DSKE node: a libp2p mesh around the state machines of `dske-protocol` and the store of
//! `dske-storage`, with a control socket for its owner.

pub mod admin;
mod batches;
pub mod bounded;
mod client;
mod clock;
pub mod config;
mod config_text;
pub mod control;
mod data_dir;
pub mod enrol;
mod error;
mod events;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod hardening;
mod hub_actor;
mod making;
mod margin;
mod me;
mod metrics;
mod network;
mod node;
mod pad_watch;
mod pads;
mod quotas;
mod retention;
mod span;
pub mod status;
mod supervision;
mod sync;
mod table_watch;
mod upkeep;

pub use data_dir::DataDir;
pub use error::NodeError;
pub use hardening::{Hardening, NotLocked, harden};
pub use making::{init, lacks_configuration};
pub use me::{Me, peer_of};
pub use network::ports::{is_free, socket_of};
pub use node::{NodeReady, check_access, check_identity, identity, run};
pub use span::span;

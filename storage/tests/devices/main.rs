//! The real store, sled and all, on devices that misbehave: the power goes, the space runs out, the file
//! system turns read-only. What they need to mount is gone with the process.

#[path = "../store/common.rs"]
mod common;
mod model;
mod mounted;
mod namespace;
mod power_cut;
mod tree;

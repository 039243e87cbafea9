//! The real store, sled and all, on devices that misbehave: the power goes, the space runs out, the file
//! system turns read-only. What they need to mount is gone with the process.

#[allow(dead_code, reason = "the other tests use the rest of it")]
#[path = "../store/common.rs"]
mod common;
mod damage;
mod model;
mod mounted;
mod namespace;
mod power_cut;
mod small_disk;
mod tree;

/// A number that the environment may set.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

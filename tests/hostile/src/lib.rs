//! Hostile input for dske: the bodies of all fuzz targets, their seeds, and floods of a running network.
//!
//! Each target in [`targets`] is a plain function of bytes. `fuzz/` runs them under libFuzzer; the test beside
//! this crate runs them over the committed corpora, on the stable toolchain.

pub mod alloc;
mod bare;
pub mod between;
pub mod cast;
pub mod flood;
pub mod input;
pub mod memory;
pub mod other_version;
pub mod pads;
pub mod seeds;
pub mod targets;
pub mod thief;

//! What a node tells monitoring over HTTP: metrics for Prometheus, whether it lives, and whether it is ready.
//!
//! Read only, off by default, and never a secret: it shows what `status` shows. Names of peers stand in labels, so who
//! deals with whom is visible to all who can reach the listener.

mod exposition;
mod families;
mod health;
mod measures;
mod process;
mod server;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use health::Health;
pub(crate) use measures::{Measures, Side};
pub(crate) use server::MetricsServer;

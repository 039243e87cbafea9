//! The control socket: how the owner of a node talks to it.

pub mod api;
mod client;
pub(crate) mod frame;
pub(crate) mod places;
mod secret;
pub(crate) mod server;
mod watched;

use dske_storage::StoreError;

pub use api::{
    Chaos, Course, Enrolment, Failure, KeyBatch, KeyDelivery, KeyGet, KeyRun, Passphrase, Reply, Request,
    Seal, StreamSpec,
};
pub use client::{Client, NotRunning};

/// Puts a failure together; an empty `help` is none.
pub(crate) fn failure(code: &str, exit: u8, message: String, help: &str) -> Failure {
    let help = (!help.is_empty()).then(|| help.to_owned());
    Failure { code: code.to_owned(), exit, message, help }
}

/// A store that refuses to work.
pub(crate) fn store_failure(error: &StoreError) -> Failure {
    failure(
        "dske::store::fault",
        1,
        error.to_string(),
        "nothing was sent or handed out; see the node's log, mend the cause, and start the node again",
    )
}

/// The node is on its way out.
pub(crate) fn stopping() -> Failure {
    failure("dske::node::stopping", 3, "the node is stopping".into(), "start it again with `dske run`")
}

//! The log of sealed messages, for tests and for operators who must know what a lane was used for: which
//! run each message consumed, and a digest that tells a message sent again from another one.
//!
//! Everything in it travels in the clear. It is written only at trace level of `dske_node::messages`.

use std::hash::{DefaultHasher, Hasher};

use dske_protocol::{ids::NodeId, message::claimed_range};

/// Notes a message on its way to (`sent`) or from a peer.
pub(super) fn note(sent: bool, peer: &NodeId, sealed: &[u8]) {
    if !tracing::enabled!(target: "dske_node::messages", tracing::Level::TRACE) {
        return;
    }
    let Some(range) = claimed_range(sealed) else { return };
    let mut digest = DefaultHasher::new();
    digest.write(sealed);
    tracing::trace!(
        target: "dske_node::messages",
        sent,
        peer = %peer.short(),
        table = %range.table,
        lane = %range.lane,
        offset = range.offset,
        len = range.len,
        digest = digest.finish(),
        "message"
    );
}

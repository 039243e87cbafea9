//! What libp2p brings: requests and responses as the node's codec reads them, and announcements.

use crate::alloc::bounded;

/// Reads the input as a request, a response and an announcement.
pub(super) fn wire(input: &[u8]) {
    bounded(input, || {
        dske_node::fuzzing::request(input);
        dske_node::fuzzing::response(input);
        dske_node::fuzzing::announcement(input);
    });
}

/// Reads the input as a request and as a reply on the control socket.
pub(super) fn control(input: &[u8]) {
    bounded(input, || {
        dske_node::fuzzing::control_request(input);
        dske_node::fuzzing::control_reply(input);
    });
}

//! Everything that may come in on the control socket, served by a real store and real actors.

use std::fs;

use dske_node::fuzzing::Socket;

/// Serves the input as one connection. Beyond one answer per request the store must still be sound.
pub(super) fn socket(input: &[u8]) {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("key"), [1; 32]).expect("a key file");
    let store = super::module::store();
    let socket = Socket::new(dir.path(), store.clone());
    socket.serve(input);
    drop(socket);
    store.close().expect("the store took no harm");
}

//! Everything that may come in on the control socket, served by a real store and real actors.

use std::fs;

use dske_node::fuzzing::{Served, Socket};

/// Serves the input as one connection. Beyond one answer per request, and each key once, the store must still be sound.
pub fn socket(input: &[u8]) -> Served {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("key"), [1; 32]).expect("a key file");
    let store = super::module::store();
    let socket = Socket::new(dir.path(), store.clone());
    let served = socket.serve(input);
    drop(socket);
    store.close().expect("the store took no harm");
    served
}

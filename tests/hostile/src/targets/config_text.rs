//! Text that people type and files hold: names, ids, key ids, configurations, enrolment requests. What is read
//! reads the same again from its own form.

use std::{fmt::Display, path::Path, str::FromStr};

use dske_node::{config::Config, enrol::EnrolmentRequest};
use dske_protocol::ids::{BlockId, KeyId, Name, NodeId, TableId};

use crate::alloc::bounded;

/// Reads the input as each kind of id and as a name.
pub(super) fn text(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    bounded(input, || {
        if let Some(name) = again::<Name>(text) {
            assert!(name.as_str() == text && name.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
        }
        for id in [
            again::<NodeId>(text).map(|id| id.to_string()),
            again::<TableId>(text).map(|id| id.to_string()),
            again::<BlockId>(text).map(|id| id.to_string()),
        ] {
            assert!(id.is_none_or(|id| id == text.to_ascii_lowercase()));
        }
        again::<KeyId>(text);
    });
}

fn again<T: FromStr + Display + PartialEq>(text: &str) -> Option<T> {
    let value: T = text.parse().ok()?;
    assert!(value.to_string().parse::<T>().is_ok_and(|read| read == value), "{text:?} does not read back");
    Some(value)
}

/// Reads the input as a configuration and as an enrolment request.
pub(super) fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let path = Path::new("fuzz");
    // No bound on memory: the owner's own file, and TOML's tables take more than they say.
    if let Ok(config) = Config::parse(text, path) {
        let written = config.to_toml().expect("what was read can be written");
        let read = Config::parse(&written, path).expect("what was written can be read");
        assert_eq!(read, config);
    }
    if let Ok(request) = EnrolmentRequest::parse(text, path) {
        let written = request.to_toml().expect("what was read can be written");
        assert_eq!(EnrolmentRequest::parse(&written, path).expect("what was written can be read"), request);
    }
}

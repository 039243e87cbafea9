//! As little HTTP as the tests need.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// What a listener on loopback answers to raw bytes, until it hangs up.
pub(crate) fn raw(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // It may hang up before all of it is written.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// Status and body of a GET.
pub(crate) fn get(port: u16, path: &str) -> (u16, String) {
    let answer = raw(port, format!("GET {path} HTTP/1.1\r\nHost: dske\r\n\r\n").as_bytes());
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (status, body)
}

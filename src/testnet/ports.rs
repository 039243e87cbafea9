//! Loopback ports for the nodes of a testnet, held until the nodes listen on them.
//!
//! They lie outside the range from which the system gives ports to outgoing calls: there, a port that is free now may be
//! taken by any program's next call before its node has started, or while it is stopped.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    os::fd::OwnedFd,
};

use rand::RngExt;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt},
};

use crate::cli::error::{CliError, Result, exit};

/// Below them lie ports of known services.
const FIRST: u16 = 10_000;
/// Where the system's range begins, if it does not say.
const CALLS_FROM: u16 = 32_768;
/// Fewer are not worth a search: the system is asked.
const FEWEST: u16 = 2_000;
/// Tries for each port.
const TRIES: usize = 64;

/// Ports that nobody else gets while this is there; whoever asks for one of them by number, and may share it, can listen on
/// it.
#[derive(Debug)]
pub(crate) struct Ports {
    held: Vec<(u16, OwnedFd)>,
}

impl Ports {
    /// So many: a run that begins at a port, if all of it is free, or free ones.
    pub(crate) fn take(count: u16, first: Option<u16>) -> Result<Self> {
        let range = range();
        let mut held = Vec::with_capacity(usize::from(count));
        for place in 0..count {
            let taken = match first {
                Some(first) => {
                    let port = first.checked_add(place).ok_or_else(|| {
                        CliError::usage(format!("{count} ports from {first} on do not fit below 65536"))
                    })?;
                    hold_named(port).map_err(|error| port_taken(port, error))?
                }
                None => free(&range).map_err(|error| port_taken(0, error))?,
            };
            held.push(taken);
        }
        held.sort_unstable_by_key(|(port, _)| *port);
        Ok(Self { held })
    }

    /// In ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> {
        self.held.iter().map(|(port, _)| *port)
    }
}

/// The longest run of ports that no outgoing call is given.
fn range() -> Option<Range<u16>> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let calls_from = text.split_whitespace().next().and_then(|first| first.parse().ok());
    let range = FIRST..calls_from.unwrap_or(CALLS_FROM);
    (range.len() >= usize::from(FEWEST)).then_some(range)
}

fn free(range: &Option<Range<u16>>) -> std::result::Result<(u16, OwnedFd), Errno> {
    if let Some(range) = range {
        let mut rng = rand::rng();
        for _ in 0..TRIES {
            match hold(rng.random_range(range.clone())) {
                Err(Errno::ADDRINUSE | Errno::ACCESS) => {}
                taken => return taken,
            }
        }
    }
    hold(0)
}

/// Takes a port for itself alone, and only then lets others share it: whoever comes later and wants it alone, or any, does
/// not get it; a node, which shares, does.
fn hold(port: u16) -> std::result::Result<(u16, OwnedFd), Errno> {
    take(port, false)
}

/// The same for a port that somebody has named. For a minute after a testnet on it the system still keeps the ends of its
/// connections there, which share it, and would not give it to anybody alone.
fn hold_named(port: u16) -> std::result::Result<(u16, OwnedFd), Errno> {
    match hold(port) {
        Err(Errno::ADDRINUSE) if has_connections(port) => take(port, true),
        taken => taken,
    }
}

fn take(port: u16, share: bool) -> std::result::Result<(u16, OwnedFd), Errno> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Who listens there lets nobody share it.
    sockopt::set_socket_reuseaddr(&socket, share)?;
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    let address = SocketAddr::try_from(getsockname(&socket)?).map_err(|_| Errno::INVAL)?;
    Ok((address.port(), socket))
}

/// Whether there are connections at a port, or what is left of them. One that is only [held](Ports) has none.
fn has_connections(port: u16) -> bool {
    let text = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let local = format!("{:08X}:{port:04X}", u32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets()));
    text.lines().any(|line| line.split_whitespace().nth(1) == Some(&*local))
}

fn port_taken(port: u16, cause: Errno) -> CliError {
    let message = match port {
        0 => "cannot find free ports on 127.0.0.1".to_owned(),
        port => format!("port {port} on 127.0.0.1 cannot be used"),
    };
    CliError::new("dske::testnet::port", exit::OTHER, message)
        .because(std::io::Error::from(cause))
        .help("choose another --port, or leave it out to take free ones")
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::TcpListener};

    use super::*;

    #[test]
    fn ports_are_distinct_and_no_outgoing_call_gets_them() {
        let ports = Ports::take(16, None).expect("free ports");
        let distinct: BTreeSet<u16> = ports.iter().collect();
        assert_eq!(distinct.len(), 16);
        if let Some(range) = range() {
            assert!(distinct.iter().all(|port| range.contains(port)), "{distinct:?} in {range:?}");
        }
    }

    #[test]
    fn a_port_that_a_testnet_has_just_left_is_free_again() {
        let port = Ports::take(1, None).expect("a free port").iter().next().expect("one");
        let node = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it listens");
        let caller = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connected");
        // Who closes first keeps its end for a minute.
        drop(node.accept().expect("connected"));
        drop(caller);
        let error = Ports::take(1, Some(port)).expect_err("it still listens");
        assert!(error.to_string().contains(&port.to_string()));
        drop(node);
        let ports = Ports::take(1, Some(port)).expect("free again");
        let node = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a node listens");
        drop(ports);
        drop(node);
    }

    #[test]
    fn a_port_that_is_held_is_for_a_node_and_for_no_other_testnet() {
        let ports = Ports::take(1, None).expect("a free port");
        let port = ports.iter().next().expect("one");
        let error = Ports::take(1, Some(port)).expect_err("held");
        assert!(error.to_string().contains(&port.to_string()));
        dske_node::is_free((Ipv4Addr::LOCALHOST, port).into()).expect("free for a node");
        // The standard library shares ports as the nodes do.
        let node = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a node listens");
        drop(ports);
        assert!(Ports::take(1, Some(port)).is_err(), "the node has it");
        drop(node);
        assert!(Ports::take(2, Some(u16::MAX)).is_err());
    }
}

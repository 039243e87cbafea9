//! Whether the addresses that a node is to listen on are free.
//!
//! The transport would share a port with whoever shares it too, such as another node: each would get a part of the calls.
//! So a node asks for the port alone first, and does not start where it is taken.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use libp2p::{Multiaddr, multiaddr::Protocol};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use super::task::NetworkConfigError;

/// `/ip4/192.0.2.1/tcp/7001` as the system knows it; names and other transports have none.
pub fn socket_of(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// Whether this program alone could listen on an address now. Connections that have just ended do not count.
///
/// # Errors
/// What the system says, such as [`io::ErrorKind::AddrInUse`].
pub fn is_free(address: SocketAddr) -> io::Result<()> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        // As the transport does: the same port of the other family is another place.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    sockopt::set_socket_reuseaddr(&socket, true)?;
    // To listen as well would take a call that comes in now, and drop it.
    Ok(bind(&socket, &address)?)
}

/// Fails with the first of the addresses that is not free.
pub(crate) fn check<'a>(
    addresses: impl IntoIterator<Item = &'a Multiaddr>,
) -> Result<(), NetworkConfigError> {
    for address in addresses {
        if let Some(Err(error)) = socket_of(address).map(is_free) {
            return Err(NetworkConfigError::Listen { address: address.clone(), reason: error.to_string() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustix::net::listen;

    use super::*;

    #[test]
    fn addresses_are_understood_or_left() {
        let socket = |text: &str| socket_of(&text.parse().expect("an address"));
        assert_eq!(socket("/ip4/192.0.2.1/tcp/7001"), "192.0.2.1:7001".parse().ok());
        assert_eq!(socket("/ip6/::1/tcp/7001"), "[::1]:7001".parse().ok());
        for other in ["/dns/p1.example/tcp/7001", "/ip4/192.0.2.1/udp/7001"] {
            assert_eq!(socket(other), None, "{other}");
        }
    }

    #[test]
    fn a_port_is_taken_by_whoever_listens_even_if_it_would_be_shared() {
        let shared = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .expect("a socket");
        sockopt::set_socket_reuseaddr(&shared, true).expect("set");
        sockopt::set_socket_reuseport(&shared, true).expect("set");
        bind(&shared, &"127.0.0.1:0".parse::<SocketAddr>().expect("an address")).expect("bound");
        listen(&shared, 1).expect("it listens");
        let taken = TcpListener::from(shared);
        let address = taken.local_addr().expect("its address");
        let everywhere = SocketAddr::new(IpAddr::from([0, 0, 0, 0]), address.port());
        for address in [address, everywhere] {
            assert_eq!(is_free(address).expect_err("taken").kind(), io::ErrorKind::AddrInUse, "{address}");
        }
        // An address of the other family is another place, where the machine has that family.
        let other = SocketAddr::new(IpAddr::from([0u16; 8]), address.port());
        assert!(is_free(other).err().is_none_or(|error| error.kind() != io::ErrorKind::AddrInUse));
        assert!(is_free("127.0.0.1:0".parse().expect("an address")).is_ok());
        drop(taken);
        assert!(is_free(address).is_ok());
    }
}

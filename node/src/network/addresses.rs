//! The addresses that a node listens on, and which of them others are told.

use std::time::Duration;

use futures::StreamExt;
use libp2p::{Multiaddr, Swarm, multiaddr::Protocol, swarm::SwarmEvent};

use super::{
    behaviour::{Behaviour, BehaviourEvent},
    task::NetworkConfigError,
};

/// The addresses of a machine are told one after the other, at once.
const FURTHER_WAIT: Duration = Duration::from_millis(50);

/// Listens; gives the address that it got or, of a wildcard, all that the machine has there. What else happens meanwhile,
/// such as a peer that calls, goes to `early`.
pub(super) async fn listen(
    swarm: &mut Swarm<Behaviour>,
    address: &Multiaddr,
    early: &mut Vec<SwarmEvent<BehaviourEvent>>,
) -> Result<Vec<Multiaddr>, NetworkConfigError> {
    let fail = |reason: String| NetworkConfigError::Listen { address: address.clone(), reason };
    let listener = swarm.listen_on(address.clone()).map_err(|error| fail(transport_reason(&error)))?;
    let mut got = Vec::new();
    loop {
        let event = if got.is_empty() {
            swarm.select_next_some().await
        } else {
            match tokio::time::timeout(FURTHER_WAIT, swarm.select_next_some()).await {
                Ok(event) => event,
                Err(_) => return Ok(got),
            }
        };
        match event {
            SwarmEvent::NewListenAddr { listener_id, address: one } if listener_id == listener => {
                got.push(one);
                if !is_wildcard(address) {
                    return Ok(got);
                }
            }
            SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. } if listener_id == listener => {
                return Err(fail(error.to_string()));
            }
            SwarmEvent::ListenerError { listener_id, error } if listener_id == listener => {
                return Err(fail(error.to_string()));
            }
            other => early.push(other),
        }
    }
}

/// Those that others can call: for them loopback is their own machine. Where there is nothing else, all are on this one.
pub(super) fn callable<'a>(addresses: impl Iterator<Item = &'a Multiaddr>) -> Vec<&'a Multiaddr> {
    let (here, elsewhere): (Vec<_>, Vec<_>) = addresses.partition(|address| is_loopback(address));
    if elsewhere.is_empty() { here } else { elsewhere }
}

fn is_wildcard(address: &Multiaddr) -> bool {
    address.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_unspecified(),
        Protocol::Ip6(ip) => ip.is_unspecified(),
        _ => false,
    })
}

fn is_loopback(address: &Multiaddr) -> bool {
    address.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_loopback(),
        Protocol::Ip6(ip) => ip.is_loopback(),
        _ => false,
    })
}

/// The innermost cause: "address in use" rather than "transport error".
fn transport_reason(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(addresses: &[&str]) -> Vec<String> {
        let addresses: Vec<Multiaddr> =
            addresses.iter().map(|text| text.parse().expect("an address")).collect();
        callable(addresses.iter()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nobody_is_sent_to_their_own_machine() {
        let (here, there) = ("/ip4/127.0.0.1/tcp/7001", "/ip4/192.0.2.1/tcp/7001");
        assert_eq!(told(&[here, there, "/ip6/::1/tcp/7001"]), [there]);
        assert_eq!(told(&[here]), [here]);
        assert_eq!(told(&["/dns/p1.example/tcp/7001", here]), ["/dns/p1.example/tcp/7001"]);
    }
}

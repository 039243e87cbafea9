//! Whether the node's addresses are its own, and whether its hubs can be reached.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use dske_node::{config::Role, status::Status};

use super::{Patient, finding::Finding};

/// How long a hub gets to take a connection.
const CALL: Duration = Duration::from_secs(3);

/// The addresses that the node listens on.
pub(super) fn ports(patient: &Patient<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(status) = patient.running {
        findings.push(Finding::good("listening", format!("on {}", status.node.listen.join(", "))));
    } else {
        let listen = &patient.config.network.listen;
        findings.extend(
            listen.iter().filter_map(|address| Some(free("listening", dske_node::socket_of(address)?))),
        );
    }
    if let Some(address) = patient.config.metrics.listen {
        findings.push(match patient.running {
            // The port of a running node is its own, unless the configuration changed since it started.
            Some(_) => answers(address),
            None => free("metrics", address),
        });
    }
    findings.extend(exposed(patient));
    findings
}

/// An address as the system knows it; names and other transports have none.
fn socket(address: &str) -> Option<SocketAddr> {
    dske_node::socket_of(&address.parse().ok()?)
}

fn free(check: &'static str, address: SocketAddr) -> Finding {
    match dske_node::is_free(address) {
        Ok(()) => Finding::good(check, format!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let help = "`ss -ltnp` shows by whom; stop it, or choose another port";
            Finding::fail(check, format!("{address} is used by another program"), help)
        }
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            let help = "`ip address` shows which are; choose one of these, or 0.0.0.0 for all";
            Finding::fail(check, format!("{address} is not an address of this machine"), help)
        }
        Err(error) => {
            let help = "choose a port above 1023, or another address";
            Finding::fail(check, format!("{address}: {error}"), help)
        }
    }
}

fn answers(address: SocketAddr) -> Finding {
    match TcpStream::connect_timeout(&address, CALL) {
        Ok(_) => Finding::good("metrics", format!("{address} answers")),
        Err(error) => {
            let help = "restart the node: its configuration may have changed since it started";
            Finding::warn("metrics", format!("{address} does not answer: {error}"), help)
        }
    }
}

/// What stands open to others than was meant, perhaps.
fn exposed(patient: &Patient<'_>) -> Option<Finding> {
    let metrics = patient.config.metrics.listen.filter(|address| !address.ip().is_loopback())?;
    let text = format!("{metrics} is not loopback: whoever reaches it sees who deals with whom");
    Some(Finding::warn("metrics", text, "bind it to 127.0.0.1, or let a firewall admit the monitoring alone"))
}

/// Whether the hubs of a client can be reached, as the running node sees it.
pub(super) fn hubs_of(status: &Status) -> Vec<Finding> {
    let Some(policy) = &status.policy else { return Vec::new() };
    let mut findings = Vec::new();
    let told = format!("{} of {} usable, {} are needed for a key", policy.usable, policy.n, policy.k);
    findings.push(match policy.usable {
        usable if usable < policy.k => {
            let help = "see the hubs below; import modules of further hubs if too few are known";
            Finding::fail("hubs", told, help)
        }
        usable if usable < policy.n => Finding::warn("hubs", told, "see the hubs below"),
        _ => Finding::good("hubs", told),
    });
    findings.extend(status.of_liars().map(|told| {
        let help = "`dske top` shows in which agreements: ask that hub's operator, and leave the hub out with --hubs or policy.hubs \
                    until it is clear why";
        // Where none is left besides, keys are agreed all the same: `status --check` is the alarm for that.
        match status.margin() {
            None => Finding::fail("hubs", told, help),
            Some(_) => Finding::warn("hubs", told, help),
        }
    }));
    for hub in status.peers.iter().filter(|peer| peer.role == Role::Hub) {
        if let Some(reason) = &hub.excluded {
            let help = format!("ask its operator; then use it again with `dske readmit {}`", hub.name);
            findings.push(Finding::warn("hub", format!("{} is excluded: {reason}", hub.name), help));
        } else if let Some(versions) = &hub.incompatible {
            let help = "nodes of one network need a version of the protocol in common";
            findings.push(Finding::warn("hub", format!("{} {versions}", hub.name), help));
        } else if !hub.connected {
            let help = "see whether it runs, and whether a firewall lets this machine reach its address";
            findings.push(Finding::warn("hub", format!("{} is not connected", hub.name), help));
        } else if let Some(why) = &hub.shut {
            let help = "a comparison takes moments; pads that are used up, out of use or missing take a new module of \
                        that hub: `dske pskm ls`, here and there, shows its tables";
            findings.push(Finding::warn("hub", format!("{} is connected, but {why}", hub.name), help));
        }
    }
    for client in status.too_few_hubs() {
        let text = format!(
            "{} is served by {} of the usable hubs, {} are needed for a key with it",
            client.name, client.usable, policy.k
        );
        let help = "the other hubs have not said who it is: see at it whether they serve it, and have it enrolled with more of them";
        findings.push(Finding::warn("hubs", text, help));
    }
    findings
}

/// Whether a hub takes a connection, for a client that does not run.
pub(super) fn call(name: &str, addresses: &[String]) -> Finding {
    let sockets: Vec<SocketAddr> = addresses.iter().filter_map(|address| socket(address)).collect();
    if sockets.is_empty() {
        let text = format!("{name} has no address that can be tried from here: {}", addresses.join(", "));
        return Finding::warn("hub", text, "start the node and look again");
    }
    match sockets.iter().find(|address| TcpStream::connect_timeout(address, CALL).is_ok()) {
        Some(address) => Finding::good("hub", format!("{name} takes connections on {address}")),
        None => Finding::warn(
            "hub",
            format!("{name} takes no connection on {}", addresses.join(", ")),
            "see whether it runs, and whether a firewall lets this machine reach it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::{super::finding::Level, *};

    #[test]
    fn a_taken_port_is_told() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("its address");
        assert_eq!(free("listening", address).level, Level::Fail);
        assert_eq!(call("p1", &[format!("/ip4/127.0.0.1/tcp/{}", address.port())]).level, Level::Ok);
        drop(taken);
        assert_eq!(free("listening", address).level, Level::Ok);
        let foreign = free("listening", "192.0.2.1:7001".parse().expect("an address"));
        assert_eq!(foreign.level, Level::Fail);
    }
}

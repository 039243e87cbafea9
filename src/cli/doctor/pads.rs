//! The store, its pads, and the hubs that they are with.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt};

use dske_node::{
    NodeError,
    config::Role,
    status::{self, PadForecast, Status},
};
use dske_storage::{Store, TableSide, TableState, TableStatus};

use super::{Patient, files, finding::Finding, network};
use crate::cli::{control, units};

/// From the running node, or from its store where it does not run.
pub(super) fn store(patient: &Patient<'_>) -> Vec<Finding> {
    if let Some(status) = patient.running {
        let mut findings = tables(&status.tables);
        findings.extend(forecasts(status));
        findings.extend(network::hubs_of(status));
        return findings;
    }
    let path = patient.dir.store();
    let me = rustix::process::geteuid().as_raw();
    match std::fs::metadata(&path) {
        // sled makes files as it opens: those of another user would keep the node out of its own store.
        Ok(about) if about.uid() != me => {
            let help = format!("give this command as its owner: `sudo -u '#{}' dske doctor`", about.uid());
            return vec![Finding::warn("store", "not opened: it belongs to another user", help)];
        }
        Err(error) => {
            let help = "there is no node here: make one with `dske init`, or name its directory with --dir";
            return vec![Finding::fail("store", format!("{}: {error}", path.display()), help)];
        }
        Ok(_) if Store::is_open_elsewhere(&path) => {
            let help = "a node that runs answers no question: see its log, or wait until it has ended";
            return vec![Finding::warn("store", "another process has it open", help)];
        }
        Ok(_) => {}
    }
    let looked = control::on_store(patient.dir, |store| {
        let (tables, hubs) = (store.tables(), store.hubs().map_err(NodeError::from)?);
        // One that cannot be read has been told of already.
        let identity = dske_node::identity(patient.dir).ok();
        let identity = identity.map(|me| dske_node::check_identity(store, &me, patient.dir));
        Ok((tables, hubs, identity))
    });
    match looked {
        Ok((found, hubs, identity)) => {
            let mut findings = vec![Finding::good("store", "opens, and contradicts itself nowhere")];
            findings.extend(identity.map(|identity| match identity {
                Ok(()) => files::own_identity(),
                Err(error) => files::refused("identity", &error),
            }));
            findings.extend(tables(&found));
            findings.extend(left(&found));
            if patient.config.node.roles.contains(&Role::Client) {
                findings.extend(hubs.iter().map(|hub| network::call(hub.name.as_str(), &hub.addresses)));
            }
            findings
        }
        Err(error) => {
            let help = format!("`dske explain {}` says what to do", error.code());
            vec![Finding::fail("store", error.to_string(), help)]
        }
    }
}

/// Tables that cannot be used, and whether there are any that can.
fn tables(tables: &[TableStatus]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in tables {
        let (serial, peer) = (&table.serial, &table.peer_name);
        findings.extend(match &table.state {
            TableState::Pending => Some(Finding::warn(
                "pads",
                format!("{serial} with {peer} waits for its receipt"),
                match table.side {
                    TableSide::Client => {
                        format!("read the receipt to {peer}'s operator: `dske pskm ack {serial} RECEIPT` at the hub")
                    }
                    TableSide::Hub => {
                        format!("have {peer}'s operator read the receipt to you: `dske pskm ack {serial} RECEIPT` here; where `dske pskm ls` says locked, retire it")
                    }
                },
            )),
            TableState::Suspended { reason } => Some(Finding::fail(
                "pads",
                format!("{serial} with {peer} is suspended: {reason}"),
                "somebody forges messages: look for who reaches this node, and have a new module made",
            )),
            TableState::Quarantined { reason } => Some(Finding::fail(
                "pads",
                format!("{serial} with {peer} is quarantined: {reason}"),
                format!("the other tables serve; what to do with this one stands above, `dske pskm retire {serial}` retires it here, whether the node runs or not, and `dske explain store::damaged` says what may be put back"),
            )),
            TableState::Active | TableState::Spent | TableState::Retired => None,
        });
    }
    let active = tables.iter().filter(|table| table.state == TableState::Active).count();
    findings.push(match active {
        0 => Finding::warn(
            "pads",
            "no table is active, so nothing can be sent",
            "hub: `dske pskm make --for CLIENT`; client: `dske pskm import FILE`",
        ),
        1 => Finding::good("pads", "one table is active"),
        active => Finding::good("pads", format!("{active} tables are active")),
    });
    findings
}

/// What the running node expects of its pads.
fn forecasts(status: &Status) -> Vec<Finding> {
    let low = status.pads.iter().filter(|pad| pad.level != status::Level::Info);
    low.map(|pad| {
        let until = pad.end().map_or_else(String::new, |end| format!(", {end}"));
        let text = format!(
            "{} as {} with {} has {} left{until}",
            pad.lane,
            pad.side,
            pad.peer,
            units::size(pad.left_bytes)
        );
        Finding::warn("pads", text, "have a new module made and imported before it is empty")
    })
    .collect()
}

/// The same where nothing is known of the rate.
fn left(tables: &[TableStatus]) -> Vec<Finding> {
    let mut pads: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for table in tables.iter().filter(|table| table.state == TableState::Active) {
        for lane in &table.lanes {
            let pad = pads.entry((&table.peer_name, table.side, lane.lane)).or_default();
            pad.0 = pad.0.saturating_add(lane.for_keys);
            pad.1 = pad.1.saturating_add(lane.of_keys());
        }
    }
    let low = pads
        .into_iter()
        .filter(|(_, (left, bytes))| left.saturating_mul(100) < bytes * u64::from(PadForecast::WARN_PERCENT));
    low.map(|((peer, side, lane), (left, bytes))| {
        let text =
            format!("{lane} as {side} with {peer} has {} of {} left", units::size(left), units::size(bytes));
        Finding::warn("pads", text, "have a new module made and imported before it is empty")
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use dske_protocol::ids::{Lane, NodeId, TableId};
    use dske_storage::LaneStatus;

    use super::*;

    #[test]
    fn a_receipt_goes_from_the_client_to_the_hub() {
        let lane = |lane| LaneStatus {
            lane,
            allocator: lane == Lane::Up,
            bytes: 1000,
            used_key: 0,
            used_identity: 0,
            used_sync: 0,
            skipped: 0,
            reserved: 0,
            left: 1000,
            for_keys: 1000,
        };
        let remedy = |side, peer: &str| {
            let table = TableStatus {
                table: TableId::new([1; 16]),
                serial: "p1-0001".into(),
                peer: NodeId::new([1; 32]),
                peer_name: peer.parse().unwrap(),
                side,
                state: TableState::Pending,
                lanes: [lane(Lane::Up), lane(Lane::Down)],
                forged_blocks: 0,
                open: false,
                comparable: true,
            };
            tables(&[table])[0].remedy.clone().unwrap()
        };
        let (client, hub) = (remedy(TableSide::Client, "p1"), remedy(TableSide::Hub, "alice"));
        assert!(client.starts_with("read the receipt to p1's operator"), "{client}");
        assert!(hub.starts_with("have alice's operator read the receipt to you"), "{hub}");
        assert!([client, hub].iter().all(|text| text.contains("dske pskm ack p1-0001 RECEIPT")));
    }
}

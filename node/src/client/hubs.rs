//! What a client knows of its hubs: which are connected, serve it, and may be used.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use dske_protocol::{
    ids::{NodeId, TableId},
    naming::{NodeRef, Roll},
    params::{Time, burned_bytes},
    sender::HubChoice,
    sync::Pace,
};
use dske_storage::{HubRecord, Store, TableSide, TableState, TableStatus};
use libp2p::Multiaddr;

use crate::{config::Role, network::Command, status::PeerStatus};

/// Bytes of a key of the usual length.
const KEY_BYTES: u64 = 32;

/// Between two calls to a hub that does not answer, at first and at last.
const DIAL_PAUSE_MIN: Duration = Duration::from_millis(250);
const DIAL_PAUSE_MAX: Duration = Duration::from_secs(10);

/// A hub that has called us is called all the same where no table with it has opened by then.
const SILENT: Duration = Duration::from_secs(2);

/// Between two questions for active tables: while one of ours is not among them, and otherwise.
const HELLO_PAUSE_WAITING: Duration = Duration::from_secs(1);
const HELLO_PAUSE: Duration = Duration::from_secs(30);

/// A hub that a module came from.
#[derive(Debug)]
struct HubState {
    record: HubRecord,
    connected: bool,
    excluded: Option<String>,
    /// Tables that the hub says it has active with us.
    active: BTreeSet<TableId>,
    hello_due: Time,
    dial_due: Time,
    dial_pause: Duration,
}

impl HubState {
    /// Why no key of ours can go over this hub, connected as it may be: none of its tables is open and has pad left for one
    /// of the usual length. The one place where that is judged.
    fn shut(&self, tables: &[TableStatus]) -> Option<&'static str> {
        let ours = tables.iter().filter(|table| {
            table.peer == self.record.node
                && table.side == TableSide::Client
                && table.state != TableState::Retired
        });
        let ours: Vec<_> = ours.collect();
        let active: Vec<_> = ours.iter().filter(|table| table.state == TableState::Active).collect();
        let open = || active.iter().filter(|table| table.open);
        if open().any(|table| left_in(table) >= burned_bytes(KEY_BYTES, 1)) {
            return None;
        }
        let any = |is: fn(&TableState) -> bool| ours.iter().any(|table| is(&table.state));
        Some(if open().next().is_some() {
            "its pads are used up"
        } else if active.iter().any(|table| self.active.contains(&table.table)) {
            "its table is being compared"
        } else if !active.is_empty() {
            "it does not use its table with this node: see `dske status` there"
        } else if any(|state| matches!(state, TableState::Quarantined { .. })) {
            "its table is quarantined"
        } else if any(|state| matches!(state, TableState::Suspended { .. })) {
            "its table is suspended"
        } else if any(|state| *state == TableState::Pending) {
            "its table waits for its receipt"
        } else if ours.is_empty() {
            "no table with it is in use: a module is needed"
        } else {
            "its pads are used up"
        })
    }
}

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Hubs {
    hubs: BTreeMap<NodeId, HubState>,
    /// All hubs that modules came from, also those that the policy does not accept.
    roll: Roll,
    /// Those that the policy accepts; empty means all.
    accepted: Vec<NodeRef>,
    /// When tables may be compared again.
    pace: Pace,
}

/// So many of these hubs can take part in a key, whoever of the clients that are known receives it: one fewer where
/// such a client is one of them, for it is no hub of its own keys.
pub(super) fn with_any_receiver(hubs: &BTreeSet<NodeId>, clients: &BTreeSet<NodeId>) -> usize {
    hubs.len() - usize::from(!hubs.is_disjoint(clients))
}

/// Bytes that messages of ours can still have of a table.
fn left_in(table: &TableStatus) -> u64 {
    table.lanes.iter().find(|lane| lane.allocator).map_or(0, |lane| lane.for_keys)
}

/// The same of the tables with a hub in which one can be sent now: of the best, for a message takes one run of one table.
fn left_with(tables: &[TableStatus], hub: &NodeId) -> u64 {
    let open = |table: &&TableStatus| {
        table.peer == *hub
            && table.side == TableSide::Client
            && table.state == TableState::Active
            && table.open
    };
    tables.iter().filter(open).map(left_in).max().unwrap_or(0)
}

impl Hubs {
    /// The hubs that modules came from, as far as the policy accepts them.
    pub(super) fn new(accepted: Vec<NodeRef>, records: Vec<HubRecord>) -> Self {
        let mut hubs = Self { hubs: BTreeMap::new(), roll: Roll::default(), accepted, pace: Pace::default() };
        // All names first: whom one of them means depends on who had it first.
        for record in &records {
            hubs.roll.add(record.node, record.name.clone(), record.since_ms);
        }
        for record in records {
            hubs.insert(Time::ZERO, record);
        }
        hubs
    }

    /// The names of all hubs.
    pub(super) fn roll(&self) -> &Roll {
        &self.roll
    }

    /// Takes a hub in, or new addresses of one. Gives whether the policy accepts it: a hub that calls itself by a name
    /// that another had here first is not whom the policy means by that name.
    pub(super) fn insert(&mut self, now: Time, record: HubRecord) -> bool {
        self.roll.add(record.node, record.name.clone(), record.since_ms);
        let meant = |meant: &NodeRef| self.roll.first(meant) == Some(record.node);
        let accepted = self.accepted.is_empty() || self.accepted.iter().any(meant);
        if accepted {
            let fresh = |record| HubState {
                record,
                connected: false,
                excluded: None,
                active: BTreeSet::new(),
                hello_due: now,
                dial_due: now,
                dial_pause: DIAL_PAUSE_MIN,
            };
            match self.hubs.get_mut(&record.node) {
                Some(hub) => {
                    hub.record = record;
                    hub.hello_due = now;
                }
                None => {
                    self.hubs.insert(record.node, fresh(record));
                }
            }
        }
        accepted
    }

    pub(super) fn exclude(&mut self, hub: &NodeId, reason: Option<String>) {
        if let Some(hub) = self.hubs.get_mut(hub) {
            hub.excluded = reason;
        }
    }

    /// Whether a hub is excluded.
    pub(super) fn is_excluded(&self, hub: &NodeId) -> bool {
        self.hubs.get(hub).is_some_and(|hub| hub.excluded.is_some())
    }

    /// Hubs that may speak and be spoken to.
    pub(super) fn accepted(&self) -> BTreeSet<NodeId> {
        self.hubs.iter().filter(|(_, hub)| hub.excluded.is_none()).map(|(&node, _)| node).collect()
    }

    /// All that a module came from.
    pub(super) fn known(&self) -> impl Iterator<Item = NodeId> {
        self.hubs.keys().copied()
    }

    pub(super) fn connection(&mut self, now: Time, node: &NodeId, up: bool) {
        if let Some(hub) = self.hubs.get_mut(node) {
            hub.connected = up;
            hub.active.clear();
            hub.hello_due = now;
            hub.dial_due = if up { now + SILENT } else { now };
            hub.dial_pause = DIAL_PAUSE_MIN;
        }
    }

    /// The hub told which tables it has active with us.
    pub(super) fn hello_answered(&mut self, node: &NodeId, active: Vec<TableId>) {
        if let Some(hub) = self.hubs.get_mut(node) {
            hub.active = active.into_iter().collect();
        }
    }

    /// A comparison of marks came to nothing: the next try waits, longer each time.
    pub(super) fn sync_lapsed(&mut self, now: Time, table: TableId) {
        self.pace.lapsed(now, table);
    }

    /// A comparison succeeded.
    pub(super) fn synced(&mut self, table: &TableId) {
        self.pace.forget(table);
    }

    /// Tables whose marks are to be compared now: those that are not open, and that the hub says to have active.
    pub(super) fn to_compare(
        &self,
        now: Time,
        apart: &BTreeMap<NodeId, BTreeSet<TableId>>,
    ) -> Vec<(NodeId, TableId)> {
        let ready = |hub: &&HubState| hub.connected && hub.excluded.is_none();
        let tables = |hub: &HubState| {
            let node = hub.record.node;
            let apart = apart.get(&node).into_iter().flatten();
            let due = |table: &&TableId| hub.active.contains(table) && self.pace.is_due(now, table);
            let both: Vec<_> = apart.filter(due).copied().collect();
            both.into_iter().map(move |table| (node, table))
        };
        self.hubs.values().filter(ready).flat_map(tables).collect()
    }

    /// Hubs that can take part in a key of ours now: there is pad for one of the usual length.
    pub(super) fn usable(&self, store: &Store) -> BTreeSet<NodeId> {
        let tables = store.tables();
        let usable = |hub: &&HubState| hub.connected && hub.excluded.is_none() && hub.shut(&tables).is_none();
        self.hubs.values().filter(usable).map(|hub| hub.record.node).collect()
    }

    /// Hubs for a roster: those that serve all receivers.
    pub(super) fn choices(
        &self,
        store: &Store,
        usable: &BTreeSet<NodeId>,
        serving: &BTreeSet<NodeId>,
        only: &[NodeId],
    ) -> Vec<HubChoice> {
        let tables = store.tables();
        let wanted = |hub: &&HubState| {
            let named = only.is_empty() || only.contains(&hub.record.node);
            named && hub.excluded.is_none() && serving.contains(&hub.record.node)
        };
        let choice = |hub: &HubState| {
            let node = hub.record.node;
            HubChoice { node, reachable: usable.contains(&node), left: left_with(&tables, &node) }
        };
        self.hubs.values().filter(wanted).map(choice).collect()
    }

    /// Calls and questions that are due, by our tables and by the hubs with which one is open.
    pub(super) fn due(
        &mut self,
        now: Time,
        ours: &BTreeMap<NodeId, BTreeSet<TableId>>,
        open: &BTreeSet<NodeId>,
    ) -> Vec<Command> {
        let mut commands = Vec::new();
        for (&node, hub) in &mut self.hubs {
            let complete = ours.get(&node).is_some_and(|ours| ours.is_subset(&hub.active));
            let pause = if complete { HELLO_PAUSE } else { HELLO_PAUSE_WAITING };
            if hub.connected && hub.hello_due <= now {
                hub.hello_due = now + pause;
                commands.push(Command::Hello { hub: node });
            }
            // The last answer may have come after the pause was chosen.
            hub.hello_due = hub.hello_due.min(now + pause);
            // Whoever has called us in its name may be another; the network knows whether calling brings anything.
            if (!hub.connected || !open.contains(&node)) && hub.dial_due <= now {
                hub.dial_due = now + hub.dial_pause;
                hub.dial_pause = (hub.dial_pause * 2).min(DIAL_PAUSE_MAX);
                let addresses: Vec<Multiaddr> =
                    hub.record.addresses.iter().filter_map(|address| address.parse().ok()).collect();
                commands.push(Command::Dial { node, addresses, is_hub: true });
            }
        }
        commands
    }

    /// The hubs as they are shown; `incompatible` says of a node why nothing can be exchanged with it.
    pub(super) fn peers(
        &self,
        tables: &[TableStatus],
        incompatible: impl Fn(&NodeId) -> Option<String>,
    ) -> Vec<PeerStatus> {
        let shut = |hub: &HubState| hub.shut(tables).filter(|_| hub.connected && hub.excluded.is_none());
        let peer = |hub: &HubState| PeerStatus {
            node: hub.record.node,
            name: hub.record.name.clone(),
            role: Role::Hub,
            connected: hub.connected,
            excluded: hub.excluded.clone(),
            incompatible: incompatible(&hub.record.node),
            shut: shut(hub).map(str::to_owned),
            waiting: 0,
        };
        self.hubs.values().map(peer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u8, name: &str, since_ms: u64) -> HubRecord {
        let name = name.parse().unwrap();
        HubRecord { node: NodeId::new([id; 32]), name, addresses: Vec::new(), since_ms }
    }

    #[test]
    fn a_policy_lets_no_hub_in_by_what_it_calls_itself() {
        let policy =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<NodeRef>>();
        let node = |id: u8| NodeId::new([id; 32]);
        let (first, other) = (record(9, "p1", 1), record(2, "p2", 2));
        // Its id comes before that of the first in every list.
        let pretender = record(1, "p1", 3);
        let accepted = policy(&["p1", "p2"]);
        let mut hubs = Hubs::new(accepted.clone(), vec![other.clone(), first.clone()]);
        assert!(!hubs.insert(Time::ZERO, pretender.clone()));
        assert_eq!(hubs.accepted(), BTreeSet::from([node(2), node(9)]));
        // After a restart too.
        let hubs = Hubs::new(accepted, vec![pretender.clone(), other.clone(), first.clone()]);
        assert_eq!(hubs.accepted(), BTreeSet::from([node(2), node(9)]));
        assert_eq!(hubs.roll().label(&node(1)), "p1/01010101");
        // The operator can mean it all the same.
        for text in ["p1/01010101", &node(1).to_string()] {
            let hubs = Hubs::new(policy(&[text]), vec![pretender.clone(), first.clone()]);
            assert_eq!(hubs.accepted(), BTreeSet::from([node(1)]));
        }
        let all = Hubs::new(Vec::new(), vec![pretender, other, first]);
        assert_eq!(all.accepted().len(), 3);
    }

    #[test]
    fn a_hub_that_no_longer_names_a_table_is_asked_again_soon() {
        let (node, table) = (NodeId::new([1; 32]), TableId::new([7; 16]));
        let ours = BTreeMap::from([(node, BTreeSet::from([table]))]);
        let mut hubs = Hubs::new(Vec::new(), vec![record(1, "p1", 1)]);
        let asks = |hubs: &mut Hubs, seconds: u64| {
            let commands = hubs.due(Time::from_secs(seconds), &ours, &BTreeSet::from([node]));
            commands.iter().any(|command| matches!(command, Command::Hello { .. }))
        };
        hubs.connection(Time::ZERO, &node, true);
        assert!(asks(&mut hubs, 0));
        hubs.hello_answered(&node, vec![table]);
        assert!(asks(&mut hubs, 1));
        hubs.hello_answered(&node, vec![table]);
        assert!(!asks(&mut hubs, 10), "nothing is missing");
        // Untagged: a hub that has had trouble says so, and so may anybody on the line.
        hubs.hello_answered(&node, Vec::new());
        assert!(!asks(&mut hubs, 10));
        assert!(asks(&mut hubs, 11));
    }

    #[test]
    fn why_a_connected_hub_is_not_used_is_said() {
        use dske_protocol::ids::Lane;
        let node = NodeId::new([1; 32]);
        let lane = |lane| dske_storage::LaneStatus {
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
        let table = |id: u8, state: TableState, open: bool| TableStatus {
            table: TableId::new([id; 16]),
            serial: format!("p1-000{id}"),
            peer: node,
            peer_name: "p1".parse().unwrap(),
            side: TableSide::Client,
            state,
            lanes: [lane(Lane::Up), lane(Lane::Down)],
            forged_blocks: 0,
            open,
            comparable: true,
        };
        let bad = || TableState::Quarantined { reason: "x".into() };
        let mut hubs = Hubs::new(Vec::new(), vec![record(1, "p1", 1)]);
        let said = |hubs: &Hubs, tables: &[TableStatus]| hubs.peers(tables, |_| None).remove(0).shut;
        assert_eq!(said(&hubs, &[]), None, "it is not connected, which is said already");
        hubs.connection(Time::ZERO, &node, true);
        let mut is = |tables: &[TableStatus], active: &[u8], words: &str| {
            hubs.hello_answered(&node, active.iter().map(|&id| TableId::new([id; 16])).collect());
            let said = said(&hubs, tables).unwrap_or_default();
            assert!(if words.is_empty() { said.is_empty() } else { said.contains(words) }, "{said}");
        };
        is(&[table(1, TableState::Active, true)], &[1], "");
        is(&[table(1, bad(), false), table(2, TableState::Active, true)], &[2], "");
        is(&[table(1, TableState::Active, false)], &[1], "being compared");
        is(&[table(1, TableState::Active, false)], &[], "does not use its table");
        is(&[table(1, bad(), false), table(2, TableState::Pending, false)], &[], "quarantined");
        is(&[table(2, TableState::Pending, false)], &[], "receipt");
        is(&[table(2, TableState::Spent, true)], &[2], "used up");
        is(&[table(2, TableState::Retired, false)], &[], "no table");
    }

    #[test]
    fn who_is_a_hub_itself_leaves_one_fewer_for_its_keys() {
        let nodes =
            |ids: &[u8]| -> BTreeSet<NodeId> { ids.iter().map(|&id| NodeId::new([id; 32])).collect() };
        let hubs = nodes(&[1, 2, 3]);
        assert_eq!(with_any_receiver(&hubs, &nodes(&[])), 3);
        assert_eq!(with_any_receiver(&hubs, &nodes(&[8, 9])), 3, "clients alone");
        assert_eq!(with_any_receiver(&hubs, &nodes(&[2])), 2);
        assert_eq!(with_any_receiver(&hubs, &nodes(&[1, 2, 3, 9])), 2, "one receiver at a time");
        assert_eq!(with_any_receiver(&nodes(&[]), &nodes(&[1])), 0);
    }
}

//! Nodes to draw, for tests.

use dske_node::{
    config::Role,
    status::{
        Counters, Event, HubShare, HubWordStatus, IdentityStatus, InquiryStatus, Level, NodeStatus,
        PadForecast, PeerStatus, PolicyStatus, SCHEMA_VERSION, SessionStatus, ShareState, Status, Step,
        StreamStatus, WishStatus,
    },
};
use dske_protocol::ids::{BlockId, Lane, Name, NodeId, TableId};
use dske_storage::{LaneStatus, ModuleRecord, ModuleState, TableSide, TableState, TableStatus};

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn lane(lane: Lane, left: u64) -> LaneStatus {
    let bytes = 8 << 20;
    let (used_identity, used_sync) = (64, 32);
    let used_key = bytes - left - used_identity - used_sync;
    let allocator = lane == Lane::Up;
    LaneStatus {
        lane,
        allocator,
        bytes,
        used_key,
        used_identity,
        used_sync,
        skipped: 0,
        reserved: 0,
        left,
        // Of a lane of this size a sixteenth is kept for comparing marks.
        for_keys: left / 16 * 15,
    }
}

fn table(hub: &str, left: u64, state: TableState) -> TableStatus {
    TableStatus {
        table: TableId::new([hub.as_bytes()[1]; 16]),
        serial: format!("{hub}-0001"),
        peer: NodeId::new([hub.as_bytes()[1]; 32]),
        peer_name: name(hub),
        side: TableSide::Client,
        state,
        lanes: [lane(Lane::Up, left), lane(Lane::Down, 6 << 20)],
        forged_blocks: 0,
        open: true,
        comparable: true,
    }
}

pub(crate) fn session(phase: &str, shares: u8, reason: Option<&str>) -> SessionStatus {
    SessionStatus {
        block: BlockId::new([if phase == "aborted" { 0x69 } else { 0x7c }; 16]),
        sender: "alice".into(),
        receivers: vec!["bob".into(), "carol\u{1b}[31m".into()],
        key_bytes: 32,
        sent: true,
        purpose: "vpn".into(),
        n: 5,
        k: 3,
        shares,
        hubs: hub_shares(shares),
        step: Step::Validation,
        steps_us: vec![
            (Step::Identity, 0),
            (Step::Generation, 900),
            (Step::Distribution, 2_000),
            (Step::Validation, 9_000),
        ],
        phase: phase.into(),
        liars: vec!["p4".into()],
        reason: reason.map(str::to_owned),
        took_us: 12_000,
        began_ms: 0,
    }
}

/// Shares of five hubs, of which p4 lies.
fn hub_shares(shares: u8) -> Vec<HubShare> {
    let state = |at: u8| match at {
        4 => ShareState::False,
        at if at <= shares => ShareState::Arrived,
        _ => ShareState::Waiting,
    };
    (1..=5).map(|at| HubShare { hub: format!("p{at}"), state: state(at) }).collect()
}

fn forecast(hub: &str, lane: Lane, empty_in_s: Option<u64>, level: Level) -> PadForecast {
    let bytes_per_s = if empty_in_s.is_some() { 2_000 } else { 0 };
    PadForecast {
        node: NodeId::new([hub.as_bytes()[1]; 32]),
        peer: name(hub),
        side: TableSide::Client,
        lane,
        left_bytes: 300_000,
        bytes: 8 << 20,
        bytes_per_s,
        empty_in_s,
        level,
    }
}

fn module(hub: &str, state: ModuleState) -> ModuleRecord {
    ModuleRecord {
        serial: format!("{hub}-0001"),
        table: TableId::new([hub.as_bytes()[1]; 16]),
        hub: NodeId::new([hub.as_bytes()[1]; 32]),
        hub_name: name(hub),
        client: NodeId::new([3; 32]),
        client_name: name("alice"),
        bytes: 16 << 20,
        state,
        made_ms: 0,
        changed_ms: 60_000,
    }
}

/// Alice, with a low pad, a hub that is away and one that lied.
pub(crate) fn client() -> Status {
    let peer = |hub: &str, connected, excluded: Option<&str>| PeerStatus {
        node: NodeId::new([hub.as_bytes()[1]; 32]),
        name: name(hub),
        role: Role::Hub,
        connected,
        excluded: excluded.map(str::to_owned),
        incompatible: None,
        shut: None,
        waiting: 0,
    };
    Status {
        schema_version: SCHEMA_VERSION,
        node: NodeStatus {
            name: name("alice"),
            id: NodeId::new([3; 32]),
            peer_id: "12D3KooW".into(),
            roles: vec![Role::Client],
            version: "0.1.0".into(),
            pid: 1,
            listen: vec![],
            uptime_ms: 61_000,
            store_fault: None,
            disk: None,
            memory_locked: true,
            fault: None,
        },
        policy: Some(PolicyStatus {
            n: 5,
            k: 3,
            k_min: 3,
            leakage: 3,
            malleability: 3,
            injection: 3,
            disruption: 3,
            usable: 4,
        }),
        tables: vec![
            table("p1", 300_000, TableState::Active),
            table("p2", 5 << 20, TableState::Active),
            table("p4", 5 << 20, TableState::Quarantined { reason: "header and ledger disagree\n".into() }),
        ],
        peers: vec![
            peer("p1", true, None),
            peer("p2", false, None),
            peer("p4", true, Some("it claims of bob what that client has not signed")),
        ],
        modules: vec![
            module("p1", ModuleState::Imported),
            module("p2", ModuleState::Imported),
            module("p4", ModuleState::Imported),
            module("p5", ModuleState::Retired),
        ],
        sessions: vec![
            session("validated", 5, None),
            session("aborted", 2, Some("two candidates: injection threshold")),
        ],
        wishes: vec![WishStatus {
            with: vec![String::from("dave")],
            key_bytes: 32,
            step: Step::Identity,
            waiting_us: 300_000,
        }],
        identities: vec![IdentityStatus {
            node: NodeId::new([4; 32]),
            name: name("bob"),
            claims: 4,
            hubs: ["p1", "p2", "p3", "p5"].map(str::to_owned).into(),
            usable: 4,
        }],
        inquiries: vec![InquiryStatus {
            subject: "bob".into(),
            at_ms: 60_000,
            outcome: "bob is 04040404".into(),
            words: vec![
                HubWordStatus { hub: "p1".into(), says: "bob is 04040404".into(), agrees: Some(true) },
                HubWordStatus { hub: "p3".into(), says: "no answer".into(), agrees: None },
                HubWordStatus {
                    hub: "p4".into(),
                    says: "bob is 66666666\u{202e}".into(),
                    agrees: Some(false),
                },
            ],
        }],
        events: vec![Event { at_ms: 67_862_000, level: Level::Crit, text: "p4 excluded\r\u{1b}[2J".into() }],
        streams: vec![StreamStatus {
            with: vec!["bob".into()],
            purpose: "wg".into(),
            bits: 256,
            low: 256,
            high: 1024,
            keys: 700,
            keys_out: 64,
            agreed: 900,
            handed_out: 200,
            protocol: "adapted".into(),
            problem: None,
        }],
        quotas: Vec::new(),
        keys: None,
        pads: vec![
            forecast("p1", Lane::Up, Some(150), Level::Crit),
            forecast("p2", Lane::Up, Some(162_000), Level::Info),
            forecast("p3", Lane::Up, None, Level::Info),
            forecast("p1", Lane::Down, None, Level::Info),
        ],
        refusals: std::collections::BTreeMap::new(),
        counters: Counters::default(),
    }
}

/// A hub that was told to lie.
pub(crate) fn hub(hub: &str) -> Status {
    let client = client();
    let peer = |client: &str, id: u8| PeerStatus {
        node: NodeId::new([id; 32]),
        name: name(client),
        role: Role::Client,
        connected: true,
        excluded: None,
        incompatible: None,
        shut: None,
        waiting: 2,
    };
    Status {
        node: NodeStatus {
            name: name(hub),
            id: NodeId::new([hub.as_bytes()[1]; 32]),
            roles: vec![Role::Hub],
            fault: Some("sends false shares".into()),
            ..client.node
        },
        policy: None,
        tables: vec![],
        peers: vec![peer("alice", 3), peer("bob", 4)],
        sessions: vec![],
        wishes: vec![],
        identities: vec![],
        inquiries: vec![],
        streams: vec![],
        keys: None,
        pads: vec![],
        counters: Counters { forwarded: 123_456, forged: 3, ..Counters::default() },
        ..client
    }
}

/// As bad as a peer can make it: whatever can hold its words holds these.
pub(crate) fn hostile(words: &str) -> Status {
    let mut status = client();
    let text = || words.to_owned();
    for session in &mut status.sessions {
        (session.sender, session.purpose, session.phase) = (text(), text(), text());
        (session.receivers, session.liars, session.reason) =
            (vec![text(); 40], vec![text(); 40], Some(text()));
        session.hubs = vec![HubShare { hub: text(), state: ShareState::False }; 255];
    }
    for word in status.inquiries.iter_mut().flat_map(|inquiry| &mut inquiry.words) {
        (word.hub, word.says) = (text(), text());
    }
    status.inquiries.push(InquiryStatus { subject: text(), at_ms: 0, outcome: text(), words: Vec::new() });
    for peer in &mut status.peers {
        (peer.excluded, peer.incompatible) = (Some(text()), Some(text()));
    }
    status.modules.iter_mut().for_each(|module| module.serial = text());
    for table in &mut status.tables {
        (table.serial, table.state) = (text(), TableState::Suspended { reason: text() });
    }
    status.events.iter_mut().for_each(|event| event.text = text());
    for stream in &mut status.streams {
        (stream.with, stream.purpose, stream.problem) = (vec![text()], text(), Some(text()));
        stream.protocol = text();
    }
    status.refusals.insert(text(), 1);
    (status.node.version, status.node.listen) = (text(), vec![text()]);
    (status.node.store_fault, status.node.fault) = (Some(text()), Some(text()));
    status
}

//! The screen at the widths that people have.

use dske_node::{
    config::Role,
    status::{
        Counters, Event, Level, NodeStatus, PeerStatus, PolicyStatus, SCHEMA_VERSION, SessionStatus, Status,
    },
};
use dske_protocol::ids::{BlockId, Lane, Name, NodeId, TableId};
use dske_storage::{LaneStatus, TableSide, TableState, TableStatus};

use crate::{once, text};

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn lane(lane: Lane, left: u64) -> LaneStatus {
    let bytes = 8 << 20;
    let (used_identity, used_sync) = (64, 32);
    let used_key = bytes - left - used_identity - used_sync;
    let allocator = lane == Lane::Up;
    LaneStatus { lane, allocator, bytes, used_key, used_identity, used_sync, skipped: 0, reserved: 0, left }
}

fn table(hub: &str, left: u64, state: TableState) -> TableStatus {
    TableStatus {
        table: TableId::new([1; 16]),
        serial: format!("{hub}-0001"),
        peer: NodeId::new([2; 32]),
        peer_name: name(hub),
        side: TableSide::Client,
        state,
        lanes: [lane(Lane::Up, left), lane(Lane::Down, 6 << 20)],
        forged_blocks: 0,
        open: true,
    }
}

fn session(phase: &str, shares: u8, reason: Option<&str>) -> SessionStatus {
    SessionStatus {
        block: BlockId::new([0x7c; 16]),
        sender: "alice".into(),
        receivers: vec!["bob".into(), "carol\u{1b}[31m".into()],
        key_bytes: 32,
        n: 5,
        k: 3,
        shares,
        phase: phase.into(),
        liars: vec!["p4".into()],
        reason: reason.map(str::to_owned),
        took_us: 12_000,
        began_ms: 0,
    }
}

fn status() -> Status {
    let peer = |hub: &str, connected, excluded: Option<&str>| PeerStatus {
        node: NodeId::new([2; 32]),
        name: name(hub),
        role: Role::Hub,
        connected,
        excluded: excluded.map(str::to_owned),
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
            memory_locked: true,
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
            peer("p4", true, Some("bob's identity conflicts with 4 of 5")),
        ],
        modules: vec![],
        sessions: vec![
            session("validated", 5, None),
            session("aborted", 2, Some("two candidates: injection threshold")),
        ],
        identities: vec![],
        events: vec![Event { at_ms: 67_862_000, level: Level::Crit, text: "p4 excluded\r\u{1b}[2J".into() }],
        streams: Vec::new(),
        quotas: Vec::new(),
        pads: Vec::new(),
        refusals: std::collections::BTreeMap::new(),
        counters: Counters::default(),
    }
}

#[test]
fn every_line_fits_and_none_can_steer_the_terminal() {
    for width in [1, 40, 41, 59, 60, 80, 95, 96, 120, 300] {
        let screen = once(&status(), width);
        let limit = usize::from(width.max(40));
        for line in screen.lines() {
            assert!(text::width(line) <= limit, "{} columns at {width}: {line}", text::width(line));
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
}

#[test]
fn what_matters_is_there_at_every_width() {
    for width in [40, 80, 120] {
        let screen = once(&status(), width);
        for part in [
            "alice",
            "n5 k3 kB3",
            "leak 3",
            "margin 1 !",
            "hubs 4/5",
            "CRIT",
            "QUAR",
            "AWAY",
            "EXCLUDED",
            "ABORT",
            "validated",
            "18:51:02",
            "false share from p4",
        ] {
            assert!(screen.contains(part), "{part} is missing at {width}:\n{screen}");
        }
    }
}

#[test]
fn eighty_columns_look_like_this() {
    let screen = once(&status(), 80);
    let lines: Vec<&str> = screen.lines().collect();
    assert_eq!(lines[0], " dske alice (client) │ n5 k3 kB3 │ leak 3 mall 3 inj 3 disr 3 │ hubs 4/5");
    assert_eq!(lines[1], " margin 1 ! │ up 1m01");
    let pad = lines.iter().find(|line| line.contains("p2-0001") && line.contains("up*")).copied();
    assert_eq!(
        pad,
        Some(" p2         up*  p2-0001    ████████████████████░░░░░░░░░░░░  62%  5.0Mi OK"),
        "{screen}"
    );
}

#[test]
fn gauges_keep_their_meaning_on_narrow_screens() {
    let screen = once(&status(), 40);
    let gauge = |left: &str| {
        let line = screen.lines().find(|line| line.contains(left)).unwrap_or_default();
        (line.matches('█').count(), line.matches('░').count())
    };
    let ((low, rest), (high, _)) = (gauge(" 3%"), gauge("62%"));
    assert!(low >= 1 && low < high && rest > 0, "{screen}");
}

#[test]
fn an_empty_node_says_so() {
    let empty =
        Status { policy: None, tables: vec![], peers: vec![], sessions: vec![], events: vec![], ..status() };
    let screen = once(&empty, 80);
    for part in ["no tables", "none yet", "none known", "forwarded"] {
        assert!(screen.contains(part), "{part}:\n{screen}");
    }
}

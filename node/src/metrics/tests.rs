//! Health and metrics of snapshots.

use dske_protocol::ids::{BlockId, Lane, Name, NodeId, TableId};
use dske_storage::{LaneStatus, OutboxEntry, OutboxId, TableSide, TableState, TableStatus};

use super::{
    exposition::{Observed, text},
    health::Health,
    measures::Measures,
};
use crate::{
    config::Role,
    margin::tests::lied_to,
    status::{Counters, NodeStatus, PeerStatus, PolicyStatus, SCHEMA_VERSION, SessionStatus, Status, Step},
};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A node that is hub and client, with nothing yet.
pub(crate) fn status(usable: u8, k: u8) -> Status {
    Status {
        schema_version: SCHEMA_VERSION,
        node: NodeStatus {
            name: name("both"),
            id: NodeId::new([1; 32]),
            peer_id: "12D3".into(),
            roles: vec![Role::Hub, Role::Client],
            version: "0.1.0".into(),
            pid: 1,
            listen: Vec::new(),
            uptime_ms: 1_000,
            store_fault: None,
            disk: None,
            fault: None,
            memory_locked: true,
        },
        policy: Some(PolicyStatus {
            n: 5,
            k,
            k_min: k,
            leakage: k,
            malleability: k,
            injection: k,
            disruption: dske_protocol::params::disruption_threshold(5, k, k),
            usable,
        }),
        tables: Vec::new(),
        peers: Vec::new(),
        modules: Vec::new(),
        sessions: Vec::new(),
        identities: Vec::new(),
        events: Vec::new(),
        streams: Vec::new(),
        wishes: Vec::new(),
        inquiries: Vec::new(),
        quotas: Vec::new(),
        keys: None,
        pads: Vec::new(),
        refusals: [("bad-tag".to_owned(), 3)].into(),
        counters: Counters { forged: 3, ..Counters::default() },
    }
}

/// An agreement in which these hubs' shares were false.
pub(crate) fn session(liars: &[&str]) -> SessionStatus {
    SessionStatus {
        block: BlockId::new([5; 16]),
        sender: "both".into(),
        receivers: vec!["bob".into()],
        sent: true,
        purpose: String::new(),
        key_bytes: 32,
        n: 5,
        k: 3,
        shares: 5,
        hubs: Vec::new(),
        step: Step::Validation,
        steps_us: Vec::new(),
        phase: "validated".into(),
        liars: liars.iter().map(ToString::to_string).collect(),
        reason: None,
        took_us: 1,
        began_ms: 1,
    }
}

fn table(serial: &str, state: TableState) -> TableStatus {
    let lane = |lane| LaneStatus {
        lane,
        allocator: lane == Lane::Up,
        bytes: 1000,
        used_key: 96,
        used_identity: 32,
        used_sync: 16,
        skipped: 56,
        reserved: 100,
        left: 700,
        for_keys: 700,
    };
    TableStatus {
        table: TableId::new([2; 16]),
        serial: serial.into(),
        peer: NodeId::new([3; 32]),
        peer_name: name("p1"),
        side: TableSide::Client,
        state,
        lanes: [lane(Lane::Up), lane(Lane::Down)],
        forged_blocks: 0,
        open: true,
        comparable: true,
    }
}

fn metrics(status: Status, outbox: Vec<OutboxEntry>) -> String {
    let health = Health::of(&status);
    let measures = Measures::new().ok();
    text(&Observed { status, health, measures, outbox, syncs: (4, 2_500_000) }).unwrap()
}

#[track_caller]
fn has(text: &str, line: &str) {
    assert!(text.lines().any(|there| there == line), "{line} is not in {text}");
}

#[test]
fn a_hub_is_not_ready_when_no_table_of_a_client_is_in_use() {
    let of = |states: &[TableState]| {
        let tables = states
            .iter()
            .map(|state| TableStatus { side: TableSide::Hub, ..table("1", state.clone()) })
            .collect();
        Health::of(&Status { tables, policy: None, ..status(3, 3) })
    };
    let damaged = || TableState::Quarantined { reason: "zeroed".into() };
    assert!(of(&[]).is_ready() && of(&[TableState::Retired]).is_ready(), "it has no clients");
    assert!(of(&[damaged(), TableState::Active]).is_ready());
    let shut = of(&[damaged(), TableState::Retired]);
    assert!(shut.is_alive() && !shut.is_ready());
}

#[test]
fn a_stopped_store_is_for_a_restart_and_few_hubs_are_not() {
    assert_eq!(Health::of(&status(3, 3)), Health::default());
    let few = Health::of(&status(2, 3));
    assert!(few.is_alive() && !few.is_ready());
    let stopped =
        Status { node: NodeStatus { store_fault: Some("EIO".into()), ..status(2, 3).node }, ..status(2, 3) };
    let stopped = Health::of(&stopped);
    assert!(!stopped.is_alive());
    let reasons: Vec<&str> = stopped.reasons().collect();
    assert_eq!(reasons, ["the store has stopped: EIO", "2 of 5 hubs usable, 3 are needed for a key"]);
    // A hub alone needs no hubs.
    let hub = Status { policy: None, ..status(0, 3) };
    assert!(Health::of(&hub).is_ready());
}

#[test]
fn hubs_that_lie_are_taken_off_the_margin_that_is_told() {
    for (liars, line) in [
        (&[][..], "dske_margin_hubs 2"),
        (&["p1"], "dske_margin_hubs 1"),
        (&["p1", "p2"], "dske_margin_hubs 0"),
        (&["p1", "p2", "p3"], "dske_margin_hubs -1"),
    ] {
        has(&metrics(lied_to(3, liars), Vec::new()), line);
    }
}

#[test]
fn a_snapshot_becomes_metrics() {
    let mut status = status(2, 3);
    status.tables = vec![
        table("p1-0001", TableState::Retired),
        table("p1-0002", TableState::Active),
        table("p1-0003", TableState::Quarantined { reason: "x".into() }),
    ];
    let text = metrics(status, Vec::new());
    has(&text, "dske_build_info{node=\"both\",roles=\"hub,client\",version=\"0.1.0\"} 1");
    has(&text, "dske_ready 0");
    has(&text, "dske_store_up 1");
    has(&text, "dske_margin_hubs -1");
    has(&text, "dske_threshold_hubs{property=\"disruption\"} 3");
    has(&text, "dske_messages_refused_total{reason=\"bad-tag\"} 3");
    has(&text, "dske_messages_refused_total{reason=\"pad-used\"} 0");
    has(&text, "dske_messages_forged_total 3");
    has(&text, "dske_store_sync_seconds_total 2.5");
    has(&text, "dske_tables{state=\"retired\"} 1");
    has(&text, "dske_tables{state=\"quarantined\"} 1");
    has(&text, "dske_tables{state=\"pending\"} 0");
    has(&text, "dske_table_left_bytes{lane=\"up\",peer=\"p1\",side=\"client\",table=\"p1-0002\"} 700");
    has(&text, "dske_table_reserved_bytes{lane=\"down\",peer=\"p1\",side=\"client\",table=\"p1-0003\"} 100");
    has(
        &text,
        "dske_table_burnt_bytes_total{kind=\"skipped\",lane=\"up\",peer=\"p1\",side=\"client\",table=\"p1-0002\"} 56",
    );
    assert!(!text.contains("p1-0001"), "retired tables make no series");
}

#[test]
fn what_waits_is_counted_for_clients_that_are_enrolled() {
    let client = |at: u8| NodeId::new([at; 32]);
    let peer = |at: u8, of: &str| PeerStatus {
        node: client(at),
        name: name(of),
        role: Role::Client,
        connected: at == 1,
        excluded: None,
        incompatible: None,
        shut: None,
        waiting: 0,
    };
    let entry = |id, receiver, bytes| OutboxEntry {
        id: OutboxId(id),
        receiver: client(receiver),
        sender: client(1),
        block: BlockId::new([0; 16]),
        table: TableId::new([0; 16]),
        at_ms: 0,
        bytes,
    };
    let mut status = status(3, 3);
    status.peers = vec![peer(1, "alice"), peer(2, "bob")];
    let text = metrics(status, vec![entry(1, 2, 96), entry(2, 2, 100), entry(3, 9, 7)]);
    has(&text, "dske_outbox_messages{peer=\"alice\"} 0");
    has(&text, "dske_outbox_messages{peer=\"bob\"} 2");
    has(&text, "dske_outbox_bytes{peer=\"bob\"} 196");
    has(&text, "dske_peer_connected{peer=\"alice\",role=\"client\"} 1");
    has(&text, "dske_peer_connected{peer=\"bob\",role=\"client\"} 0");
}

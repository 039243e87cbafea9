//! Two ends of one table compare their marks, lose messages, and are put back to earlier states
//! (`dske_protocol::sync`).

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test stops at the first surprise"
)]

use std::{collections::VecDeque, time::Duration};

use dske_protocol::{
    effect::{LaneMarks, MintRefusal, Minted, PadEffect, PadOutcome, Ticket},
    hub::RequestId,
    ids::{Lane, NodeId, PadRange, TableId},
    message::{Nonce, claimed_range},
    pad::PadBytes,
    params::Time,
    refusal::Refusal,
    sync::{
        ClientEnd, Connection, Found, GREETINGS_MAX, HELLO_PAUSE, HelloBack, HubEnd, SyncDesk, SyncEffect,
        SyncHello, SyncInput, SyncSide, key_place, keys_from,
    },
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

const LANE: u64 = 64 << 10;
const CHUNK: u64 = 1024;
const TABLE: TableId = TableId::new([7; 16]);
const CLIENT: NodeId = NodeId::new([1; 32]);
const HUB: NodeId = NodeId::new([2; 32]);
/// The client's connection.
const OVER: Connection = Connection(1);
/// What is said over it, and what a thief of the client's transport key says over others.
const OWN: RequestId = RequestId(0);
const THIEF: RequestId = RequestId(1 << 32);

/// What one end has on its disk.
#[derive(Debug, Clone)]
struct Disk {
    pending: bool,
    mark: u64,
    /// Places of its lane that tag keys of marks have used.
    keys: Vec<(u64, u64)>,
    used: Vec<(u64, u64)>,
    lease: u64,
    peer_mark: u64,
}

/// One end: its desk, its disk, and what it has handed out since it started.
struct End<S: SyncSide> {
    desk: SyncDesk<S>,
    disk: Disk,
    position: u64,
    open: bool,
    found: Vec<Found>,
    passed: Vec<Ticket>,
    dropped: Vec<Ticket>,
    lapsed: usize,
    /// It has said to the store that it was put back.
    put_back: bool,
    crashes_before_skip: bool,
    forged: u64,
    /// The store's answers, in order, where they come later.
    slow: Option<VecDeque<PadOutcome>>,
    rng: StdRng,
}

fn lane_byte(lane: Lane, at: u64) -> u8 {
    let word = (at / 8 + 1).wrapping_mul(if lane == Lane::Up {
        0x9e37_79b9_7f4a_7c15
    } else {
        0xc2b2_ae3d_27d4_eb4f
    });
    word.rotate_left(23).to_le_bytes()[(at % 8) as usize]
}

fn pad(range: &PadRange) -> PadBytes {
    PadBytes::mint((range.offset..range.offset + range.len).map(|at| lane_byte(range.lane, at)).collect())
}

/// What goes over the wire.
#[derive(Debug, Clone)]
enum Wire {
    Hello(SyncHello),
    HelloAnswer(Result<HelloBack, Refusal>),
    Mark(Vec<u8>),
    MarkAnswer(Option<Vec<u8>>),
}

impl<S: SyncSide> End<S> {
    fn new(disk: Disk, seed: u64) -> Self {
        Self {
            desk: SyncDesk::new(1),
            position: disk.mark,
            disk,
            open: false,
            found: Vec::new(),
            passed: Vec::new(),
            dropped: Vec::new(),
            lapsed: 0,
            put_back: false,
            crashes_before_skip: false,
            forged: 0,
            slow: None,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    fn peer() -> NodeId {
        if S::OWN == Lane::Up { HUB } else { CLIENT }
    }

    /// Everything below in the peer's lane counts as used.
    fn used_below(&self) -> u64 {
        end_from(&self.disk.used, 0).min(keys_from(LANE))
    }

    fn seen(&self) -> u64 {
        let used = self.disk.used.iter().filter(|run| run.0 < keys_from(LANE)).map(|run| run.1).max();
        used.unwrap_or(0).max(self.disk.peer_mark)
    }

    fn input(&mut self, now: Time, input: SyncInput) {
        self.desk.handle(now, input, &mut self.rng);
    }

    /// A run for a message, out of a chunk that is reserved first.
    fn mint(&mut self, bytes: u64) -> PadRange {
        let offset = self.position;
        self.position += bytes;
        while self.disk.mark < self.position {
            self.disk.mark += CHUNK;
        }
        PadRange { table: TABLE, lane: S::OWN, offset, len: bytes }
    }

    /// Executes effects; gives what goes over the wire.
    fn run(&mut self, now: Time) -> Vec<Wire> {
        let mut wire = Vec::new();
        while let Some(effect) = self.desk.poll_effect() {
            match effect {
                SyncEffect::Pad(effect) => {
                    let outcome = self.pads(effect);
                    match (&mut self.slow, outcome) {
                        (Some(slow), outcome) => slow.extend(outcome),
                        (None, Some(outcome)) => self.input(now, SyncInput::Pad(outcome)),
                        (None, None) => {}
                    }
                }
                SyncEffect::Hello { hello, .. } => wire.push(Wire::Hello(hello)),
                SyncEffect::AnswerHello { id: THIEF, .. } => {}
                SyncEffect::AnswerHello { result, .. } => wire.push(Wire::HelloAnswer(result)),
                SyncEffect::Mark { bytes, .. } => wire.push(Wire::Mark(bytes)),
                SyncEffect::AnswerMark { result, .. } => wire.push(Wire::MarkAnswer(result.ok())),
                SyncEffect::Pass(ticket) => self.passed.push(ticket),
                SyncEffect::Drop(ticket) => self.dropped.push(ticket),
                SyncEffect::Synced { found, .. } => self.found.push(found),
                SyncEffect::Lapsed { .. } => self.lapsed += 1,
            }
        }
        wire
    }

    fn pads(&mut self, effect: PadEffect) -> Option<PadOutcome> {
        Some(match effect {
            PadEffect::Hold { ticket, range, for_sync, .. } => {
                assert!(for_sync);
                let used =
                    self.disk.used.iter().any(|run| run.0 < range.offset + range.len && range.offset < run.1);
                let result = if used { Err(Refusal::PadUsed) } else { Ok(pad(&range)) };
                PadOutcome::Held { ticket, result, block_ended: false }
            }
            PadEffect::Release { forged_blocks, .. } => {
                self.forged += u64::from(forged_blocks.is_some());
                return None;
            }
            PadEffect::Commit { ticket, record } => {
                self.disk
                    .used
                    .extend(record.claims.iter().map(|(range, _)| (range.offset, range.offset + range.len)));
                if let Some(sync) = record.sync {
                    self.disk.lease = self.disk.lease.max(sync.lease);
                    self.disk.peer_mark = self.disk.peer_mark.max(sync.peer_mark);
                    self.disk.used.extend(sync.void_below.map(|end| (0, end)));
                    self.disk.used.push((keys_from(LANE), sync.peer_keys));
                    self.disk.keys.push((keys_from(LANE), sync.own_keys));
                    self.put_back |= sync.put_back.is_some();
                    self.disk.pending &= !sync.activate;
                }
                // After a start messages begin at the mark, so a lease beyond it would let them repeat.
                assert!(self.disk.lease <= self.disk.mark, "{:?}", self.disk);
                PadOutcome::Committed { ticket, ok: true }
            }
            PadEffect::Marks { ticket, reserve, .. } => {
                if reserve && self.disk.mark < self.position + CHUNK / 2 {
                    self.disk.mark += CHUNK;
                }
                let marks = LaneMarks {
                    own: self.disk.mark,
                    next: self.position,
                    seen: self.seen(),
                    used_below: self.used_below(),
                    lease: self.disk.lease,
                    keys: end_from(&self.disk.keys, keys_from(LANE)),
                    keys_seen: end_from(&self.disk.used, keys_from(LANE)),
                    own_bytes: LANE,
                    peer_bytes: LANE,
                    ahead: CHUNK / 2,
                    unsure: false,
                };
                let pending = self.disk.pending && S::OWN == Lane::Down;
                PadOutcome::Marks {
                    ticket,
                    result: if pending { Err(Refusal::TablePending) } else { Ok(marks) },
                }
            }
            PadEffect::MintSync { ticket, at, .. } => {
                let mut place = key_place(LANE, at);
                while let Some(at) = place.filter(|at| end_from(&self.disk.keys, *at) > *at) {
                    place = key_place(LANE, at + 1);
                }
                let run = |offset| {
                    self.disk.keys.push((offset, offset + 32));
                    let range = PadRange { table: TABLE, lane: S::OWN, offset, len: 32 };
                    vec![Minted { range, pad: pad(&range) }]
                };
                PadOutcome::Minted { ticket, result: place.map(run).ok_or(MintRefusal::Internal) }
            }
            PadEffect::Skip { ticket, .. } if self.crashes_before_skip => {
                PadOutcome::Skipped { ticket, ok: false }
            }
            PadEffect::Skip { ticket, to, .. } => {
                self.disk.mark = self.disk.mark.max(to);
                self.position = self.position.max(to);
                PadOutcome::Skipped { ticket, ok: true }
            }
            PadEffect::Open(_) => {
                self.open = true;
                return None;
            }
            PadEffect::Close { .. } | PadEffect::Shut(_) | PadEffect::Leave(_) => {
                self.open = false;
                return None;
            }
            PadEffect::Mint { .. } => unreachable!("sync takes no runs for messages"),
        })
    }
}

/// The two ends and the wire between them.
struct Pair {
    client: End<ClientEnd>,
    hub: End<HubEnd>,
    now: Time,
    seeds: u64,
    /// All marks that went over the wire, in both directions.
    marks: Vec<Vec<u8>>,
    /// May lose what passes.
    lose: Box<dyn FnMut(&Wire) -> bool>,
    /// Over which connections a thief of the client's transport key says hello before and after each of its hellos.
    thief: Vec<Connection>,
    /// May change what is not under a tag: a hello, its answer.
    alter: Box<dyn FnMut(&mut Wire)>,
}

/// Where the bytes from a place on that are all in a set of runs end.
fn end_from(runs: &[(u64, u64)], at: u64) -> u64 {
    let mut end = at;
    while let Some(run) = runs.iter().find(|run| run.0 <= end && end < run.1) {
        end = run.1;
    }
    end
}

fn fresh() -> Disk {
    Disk { pending: false, mark: 0, keys: Vec::new(), used: Vec::new(), lease: 0, peer_mark: 0 }
}

impl Pair {
    fn new() -> Self {
        Self {
            client: End::new(fresh(), 1),
            hub: End::new(fresh(), 2),
            now: Time::ZERO,
            seeds: 3,
            marks: Vec::new(),
            lose: Box::new(|_| false),
            thief: Vec::new(),
            alter: Box::new(|_| ()),
        }
    }

    fn connect(&mut self) {
        self.now += HELLO_PAUSE * 2;
        self.client.input(self.now, SyncInput::Begin { peer: HUB, table: TABLE });
        self.settle();
    }

    fn disconnect(&mut self) {
        self.client.input(self.now, SyncInput::Disconnected(HUB));
        self.hub.input(self.now, SyncInput::Disconnected(CLIENT));
        self.settle();
    }

    /// Carries everything until both ends are silent.
    fn settle(&mut self) {
        let now = self.now;
        let id = OWN;
        loop {
            let up: VecDeque<Wire> = self.client.run(now).into();
            let down: VecDeque<Wire> = self.hub.run(now).into();
            if up.is_empty() && down.is_empty() {
                return;
            }
            for mut wire in up {
                (self.alter)(&mut wire);
                self.note(&wire);
                let lost = (self.lose)(&wire);
                let (hub, client) = (&mut self.hub, &mut self.client);
                match wire {
                    Wire::Hello(_) if lost => {
                        client.input(now, SyncInput::HelloAnswer { peer: HUB, table: TABLE, answer: None });
                    }
                    Wire::Hello(hello) => {
                        let steal = |hub: &mut End<HubEnd>| {
                            for &over in &self.thief {
                                let hello = SyncHello { table: TABLE, nonce: Nonce::random(&mut hub.rng) };
                                hub.input(now, SyncInput::Hello { id: THIEF, from: CLIENT, over, hello });
                            }
                        };
                        steal(hub);
                        hub.input(now, SyncInput::Hello { id, from: CLIENT, over: OVER, hello });
                        steal(hub);
                    }
                    Wire::Mark(_) if lost => {
                        client.input(now, SyncInput::MarkAnswer { peer: HUB, table: TABLE, bytes: None });
                    }
                    Wire::Mark(bytes) => hub.input(now, SyncInput::Mark { id, from: CLIENT, bytes }),
                    Wire::MarkAnswer(bytes) => {
                        let bytes = bytes.filter(|_| !lost);
                        hub.input(now, SyncInput::MarkAnswer { peer: CLIENT, table: TABLE, bytes });
                    }
                    Wire::HelloAnswer(_) => unreachable!("a client gets no hello"),
                }
            }
            for mut wire in down {
                (self.alter)(&mut wire);
                self.note(&wire);
                let lost = (self.lose)(&wire);
                let (hub, client) = (&mut self.hub, &mut self.client);
                match wire {
                    Wire::HelloAnswer(answer) => {
                        let answer = Some(answer).filter(|_| !lost);
                        client.input(now, SyncInput::HelloAnswer { peer: HUB, table: TABLE, answer });
                    }
                    Wire::Mark(_) if lost => {
                        hub.input(now, SyncInput::MarkAnswer { peer: CLIENT, table: TABLE, bytes: None });
                    }
                    Wire::Mark(bytes) => client.input(now, SyncInput::Mark { id, from: HUB, bytes }),
                    Wire::MarkAnswer(bytes) => {
                        let bytes = bytes.filter(|_| !lost);
                        client.input(now, SyncInput::MarkAnswer { peer: HUB, table: TABLE, bytes });
                    }
                    Wire::Hello(_) => unreachable!("a hub says no hello of its own"),
                }
            }
        }
    }

    fn note(&mut self, wire: &Wire) {
        if let Wire::Mark(bytes) | Wire::MarkAnswer(Some(bytes)) = wire {
            self.marks.push(bytes.clone());
        }
    }

    fn restart_client(&mut self, disk: Disk) {
        self.disconnect();
        self.seeds += 1;
        self.client = End::new(disk, self.seeds);
    }

    fn restart_hub(&mut self, disk: Disk) {
        self.disconnect();
        self.seeds += 1;
        self.hub = End::new(disk, self.seeds);
    }
}

/// Mints a run at an end and asks whether a message under it may go.
fn send<S: SyncSide>(end: &mut End<S>, now: Time, number: u64, bytes: u64) -> PadRange {
    let range = end.mint(bytes);
    end.input(now, SyncInput::Outgoing { ticket: Ticket(number), peer: End::<S>::peer(), range });
    range
}

/// Has the client or the hub send a message.
fn send_as(pair: &mut Pair, client: bool, number: u64) -> PadRange {
    let now = pair.now;
    if client { send(&mut pair.client, now, number, 96) } else { send(&mut pair.hub, now, number, 96) }
}

/// Has one end send forty messages, and puts it back to before them. Gives the end of the last run.
fn send_and_put_back(pair: &mut Pair, client: bool) -> u64 {
    let (old_client, old_hub) = (pair.client.disk.clone(), pair.hub.disk.clone());
    let mut furthest = 0;
    for number in 0..40 {
        let range = send_as(pair, client, number);
        pair.settle();
        furthest = range.offset + range.len;
    }
    let passed = if client { pair.client.passed.len() } else { pair.hub.passed.len() };
    assert_eq!(passed, 40);
    if client {
        pair.restart_client(old_client);
    } else {
        pair.restart_hub(old_hub);
    }
    furthest
}

#[test]
fn both_ends_open_and_their_leases_cover_what_they_hand_out_next() {
    let mut pair = Pair::new();
    pair.connect();
    assert!(pair.client.open && pair.hub.open);
    assert_eq!(
        (pair.client.found.as_slice(), pair.hub.found.as_slice()),
        (&[Found::default()][..], &[Found::default()][..])
    );
    let tags: usize = pair.marks.len();
    assert_eq!(tags, 4, "two marks of each end");
    send(&mut pair.client, pair.now, 1, 96);
    send(&mut pair.hub, pair.now, 2, 96);
    pair.client.run(pair.now);
    pair.hub.run(pair.now);
    assert_eq!(
        (pair.client.passed.as_slice(), pair.hub.passed.as_slice()),
        (&[Ticket(1)][..], &[Ticket(2)][..])
    );
}

#[test]
fn nothing_passes_beyond_what_the_peer_has_on_record() {
    let mut pair = Pair::new();
    send(&mut pair.client, pair.now, 1, 96);
    pair.settle();
    assert_eq!(pair.client.dropped, [Ticket(1)], "not before the comparison");
    pair.connect();
    send(&mut pair.client, pair.now, 2, 5 * CHUNK);
    let wire = pair.client.run(pair.now);
    assert!(pair.client.passed.is_empty(), "longer than the lease");
    assert!(matches!(wire.as_slice(), [Wire::Mark(_)]), "{wire:?}");
    let Some(Wire::Mark(bytes)) = wire.into_iter().next() else { unreachable!() };
    pair.hub.input(pair.now, SyncInput::Mark { id: RequestId(1), from: CLIENT, bytes });
    let Some(Wire::MarkAnswer(Some(bytes))) = pair.hub.run(pair.now).pop() else { panic!("no answer") };
    assert!(pair.client.passed.is_empty());
    let bytes = Some(bytes);
    pair.client.input(pair.now, SyncInput::MarkAnswer { peer: HUB, table: TABLE, bytes });
    pair.settle();
    assert_eq!(pair.client.passed, [Ticket(2)]);
}

#[test]
fn a_message_beyond_all_that_is_reserved_is_dropped_and_not_asked_about_for_ever() {
    let mut pair = Pair::new();
    pair.connect();
    let range = PadRange { table: TABLE, lane: Lane::Up, offset: LANE - 64, len: 64 };
    pair.client.input(pair.now, SyncInput::Outgoing { ticket: Ticket(7), peer: HUB, range });
    pair.settle();
    assert_eq!(pair.client.dropped, [Ticket(7)]);
    send(&mut pair.client, pair.now, 8, 96);
    pair.settle();
    assert_eq!(pair.client.passed, [Ticket(8)], "others are not concerned");
}

#[test]
fn an_end_that_was_put_back_skips_what_it_sent_though_nothing_arrived() {
    for client in [true, false] {
        let mut pair = Pair::new();
        pair.connect();
        // Nothing of it reaches the peer, which holds only the announced marks.
        let furthest = send_and_put_back(&mut pair, client);
        pair.connect();
        let (end, other) = if client {
            (&pair.client.found, &pair.hub.found)
        } else {
            (&pair.hub.found, &pair.client.found)
        };
        assert!(end[0].skipped > 0, "{end:?}");
        assert!(other.last().unwrap().peer_put_back || !other.last().unwrap().is_notable());
        let next = send_as(&mut pair, client, 99);
        assert!(next.offset >= furthest, "{next:?} was sent before");
        pair.settle();
        assert!(if client { pair.client.open && pair.client.put_back } else { pair.hub.open });
    }
}

#[test]
fn a_crash_between_what_is_recorded_and_what_is_skipped_hides_no_roll_back() {
    for client in [true, false] {
        let mut pair = Pair::new();
        pair.connect();
        let furthest = send_and_put_back(&mut pair, client);
        pair.client.crashes_before_skip = client;
        pair.hub.crashes_before_skip = !client;
        pair.connect();
        let (client_disk, hub_disk) = (pair.client.disk.clone(), pair.hub.disk.clone());
        if client {
            pair.restart_client(client_disk);
        } else {
            pair.restart_hub(hub_disk);
        }
        pair.connect();
        let next = send_as(&mut pair, client, 99);
        assert!(next.offset >= furthest, "{next:?} was sent before {furthest}, client: {client}");
    }
}

#[test]
fn what_a_peer_that_was_put_back_will_refuse_is_skipped_also_where_its_first_word_was_lost() {
    for client in [true, false] {
        let mut pair = Pair::new();
        pair.connect();
        send_as(&mut pair, client, 1);
        send_as(&mut pair, !client, 1);
        pair.settle();
        let (old_client, old_hub) = (pair.client.disk.clone(), pair.hub.disk.clone());
        for number in 2..40 {
            send_as(&mut pair, client, number);
            pair.settle();
        }
        // The other end comes back as it was, counts all that was announced as used, and its mark that tells is lost.
        let answers = Box::new(|wire: &Wire| matches!(wire, Wire::MarkAnswer(_)));
        if client {
            pair.restart_hub(old_hub);
            pair.lose = answers;
        } else {
            pair.restart_client(old_client);
            let mut marks = 0;
            pair.lose = Box::new(move |wire| {
                marks += usize::from(matches!(wire, Wire::Mark(_)));
                matches!(wire, Wire::Mark(_)) && marks > 1
            });
        }
        pair.connect();
        pair.lose = Box::new(|_| false);
        pair.disconnect();
        pair.connect();
        let next = send_as(&mut pair, client, 99);
        pair.settle();
        let refused_below = if client { pair.hub.used_below() } else { pair.client.used_below() };
        assert!(
            next.offset >= refused_below,
            "{next:?} would be refused below {refused_below}, client: {client}"
        );
    }
}

#[test]
fn a_first_mark_that_is_lost_hides_no_roll_back() {
    for client in [true, false] {
        let mut pair = Pair::new();
        pair.connect();
        let furthest = send_and_put_back(&mut pair, client);
        // Its tag key lies where the other end is, far beyond what this end knows of itself.
        pair.lose = if client {
            Box::new(|wire| matches!(wire, Wire::Mark(_)))
        } else {
            Box::new(|wire| matches!(wire, Wire::MarkAnswer(_)))
        };
        pair.connect();
        pair.lose = Box::new(|_| false);
        pair.disconnect();
        pair.connect();
        let next = send_as(&mut pair, client, 99);
        assert!(next.offset >= furthest, "{next:?} was sent before, client: {client}");
    }
}

#[test]
fn a_hello_that_comes_again_does_not_end_what_stands() {
    let mut pair = Pair::new();
    pair.connect();
    let nonce = Nonce::random(&mut StdRng::seed_from_u64(9));
    let hello = SyncHello { table: TABLE, nonce };
    let now = pair.now + HELLO_PAUSE;
    pair.hub.input(now, SyncInput::Hello { id: RequestId(1), from: CLIENT, over: OVER, hello });
    assert!(matches!(pair.hub.run(now).as_slice(), [Wire::HelloAnswer(Ok(_))]));
    send(&mut pair.hub, pair.now, 5, 96);
    pair.settle();
    assert_eq!(pair.hub.passed, [Ticket(5)]);
    assert!(pair.hub.dropped.is_empty());
}

#[test]
fn hellos_over_other_connections_stop_no_comparison() {
    let mut pair = Pair::new();
    pair.thief = (2..=u64::try_from(GREETINGS_MAX).unwrap()).map(Connection).collect();
    for _ in 0..3 {
        pair.connect();
        assert!(pair.hub.open && pair.client.open);
        pair.disconnect();
    }
    assert_eq!(pair.client.lapsed, 0);
}

#[test]
fn a_comparison_that_lapses_shuts_the_table_so_that_it_is_begun_again() {
    let mut pair = Pair::new();
    pair.connect();
    pair.lose = Box::new(|wire| matches!(wire, Wire::Mark(_) | Wire::MarkAnswer(_)));
    for number in 0..40 {
        send(&mut pair.client, pair.now, number, 96);
        pair.settle();
    }
    assert!(pair.client.lapsed > 0 && !pair.client.open);
}

/// A mark or an answer to one arrives at an end; gives what it says to that.
fn arrive<S: SyncSide>(end: &mut End<S>, now: Time, wire: Wire) -> Vec<Wire> {
    let peer = End::<S>::peer();
    match wire {
        Wire::Mark(bytes) => end.input(now, SyncInput::Mark { id: OWN, from: peer, bytes }),
        Wire::MarkAnswer(bytes) => end.input(now, SyncInput::MarkAnswer { peer, table: TABLE, bytes }),
        _ => unreachable!("both ends have compared"),
    }
    end.run(now)
}

/// Two ends announce at once, and what they say overtakes each other: the second one's mark and its answer arrive
/// before the first one's mark (`whole`), or before the answer to it.
fn overtake<A: SyncSide, B: SyncSide>(now: Time, one: &mut End<A>, other: &mut End<B>, whole: bool) {
    let announce = |wire: Vec<Wire>| match <[Wire; 1]>::try_from(wire) {
        Ok([mark @ Wire::Mark(_)]) => mark,
        wire => panic!("{wire:?}"),
    };
    let answer = |wire: Vec<Wire>| wire.into_iter().find(|wire| matches!(wire, Wire::MarkAnswer(_))).unwrap();
    send(one, now, 1, 5 * CHUNK);
    let mark = announce(one.run(now));
    let late = if whole { mark } else { answer(arrive(other, now, mark)) };
    send(other, now, 2, 5 * CHUNK);
    let theirs = announce(other.run(now));
    let ours = answer(arrive(one, now, theirs));
    let next = arrive(other, now, ours);
    assert!(next.iter().all(|wire| !matches!(wire, Wire::MarkAnswer(_))), "{next:?}");
    assert_eq!(other.passed, [Ticket(2)]);
    let mut to_one: VecDeque<Wire> = VecDeque::new();
    let mut to_other: VecDeque<Wire> = next.into();
    std::mem::swap(&mut to_one, &mut to_other);
    if whole {
        to_other.push_back(late)
    } else {
        to_one.push_back(late)
    }
    while !to_one.is_empty() || !to_other.is_empty() {
        to_one.drain(..).for_each(|wire| to_other.extend(arrive(one, now, wire)));
        to_other.drain(..).for_each(|wire| to_one.extend(arrive(other, now, wire)));
    }
}

#[test]
fn a_mark_or_an_answer_that_is_overtaken_shuts_nothing_and_loses_nothing() {
    for (client_first, whole) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut pair = Pair::new();
        pair.connect();
        pair.now += HELLO_PAUSE;
        let Pair { client, hub, now, .. } = &mut pair;
        if client_first {
            overtake(*now, client, hub, whole)
        } else {
            overtake(*now, hub, client, whole)
        }
        let case = format!("client first: {client_first}, the mark itself: {whole}");
        assert!(client.open && hub.open && client.lapsed == 0, "{case}");
        let (first, dropped) = if client_first {
            (client.passed.clone(), client.dropped.clone())
        } else {
            (hub.passed.clone(), hub.dropped.clone())
        };
        assert_eq!((first, dropped), (vec![Ticket(1)], vec![]), "{case}");
        pair.settle();
        assert_eq!(pair.client.desk.under_way() + pair.hub.desk.under_way(), 0, "{case}");
    }
}

#[test]
fn a_receiving_end_that_was_put_back_counts_all_that_was_sent_as_used() {
    let mut pair = Pair::new();
    pair.connect();
    let old = pair.client.disk.clone();
    let mut sent = Vec::new();
    for number in 0..40 {
        sent.push(send(&mut pair.hub, pair.now, number, 96));
        pair.settle();
    }
    pair.restart_client(old);
    pair.connect();
    assert!(pair.client.found[0].put_back && pair.client.put_back);
    assert!(pair.hub.found.last().unwrap().peer_put_back);
    for range in sent {
        let used = |run: &&(u64, u64)| run.0 <= range.offset && range.offset + range.len <= run.1;
        assert!(pair.client.disk.used.iter().any(|run| used(&run)), "{range:?} could be replayed");
    }
    let next = send(&mut pair.hub, pair.now, 99, 96);
    assert!(pair.client.disk.used.iter().all(|run| run.1 <= next.offset || next.offset + next.len <= run.0));
}

#[test]
fn marks_of_another_connection_and_forged_ones_change_nothing() {
    let mut pair = Pair::new();
    pair.connect();
    let old = pair.marks.clone();
    pair.disconnect();
    pair.connect();
    let (client, hub) = (pair.client.disk.clone(), pair.hub.disk.clone());
    for bytes in old {
        let id = RequestId(9);
        pair.hub.input(pair.now, SyncInput::Mark { id, from: CLIENT, bytes: bytes.clone() });
        pair.client.input(pair.now, SyncInput::Mark { id, from: HUB, bytes });
        pair.hub.run(pair.now);
        pair.client.run(pair.now);
    }
    assert_eq!(pair.hub.desk.counters().stale + pair.client.desk.counters().stale, 4);
    // The client's latest mark has its tag key in a run that the hub has not used yet, if its tag is changed.
    pair.lose = Box::new(|wire| matches!(wire, Wire::Mark(_)));
    pair.disconnect();
    pair.connect();
    let mut forged = pair.marks.last().unwrap().clone();
    for bit in [0, 77] {
        let at = forged.len() - 1 - bit / 8;
        forged[at] ^= 1 << (bit % 8);
        pair.hub.input(pair.now, SyncInput::Mark { id: RequestId(9), from: CLIENT, bytes: forged.clone() });
        let wire = pair.hub.run(pair.now);
        assert!(matches!(wire.as_slice(), [Wire::MarkAnswer(None)]));
    }
    assert_eq!(pair.hub.forged, 2);
    assert_eq!((client.used.len(), hub.used.len()), (pair.client.disk.used.len(), pair.hub.disk.used.len()));
    assert!(!pair.hub.open);
}

#[test]
fn a_hello_costs_a_hub_nothing_and_is_answered_seldom() {
    let mut pair = Pair::new();
    pair.connect();
    let before = pair.hub.disk.clone();
    let hello = SyncHello { table: TABLE, nonce: Nonce::random(&mut StdRng::seed_from_u64(9)) };
    let mut answered = 0;
    for step in 0..100u32 {
        let now = pair.now + HELLO_PAUSE + Duration::from_millis(u64::from(step));
        pair.hub.input(now, SyncInput::Hello { id: RequestId(1), from: CLIENT, over: OVER, hello });
        for wire in pair.hub.run(now) {
            answered += usize::from(matches!(wire, Wire::HelloAnswer(Ok(_))));
        }
    }
    assert!((2..=3).contains(&answered), "{answered}");
    assert_eq!((before.mark, before.keys), (pair.hub.disk.mark, pair.hub.disk.keys.clone()));
}

#[test]
fn only_a_mark_of_the_hub_makes_a_pending_table_active() {
    let mut pair = Pair::new();
    pair.client.disk.pending = true;
    pair.hub.disk.pending = true;
    pair.connect();
    assert!(pair.client.disk.pending && !pair.client.open && pair.client.lapsed == 1);
    assert!(pair.client.disk.keys.is_empty(), "a hub that still waits for the receipt costs nothing");
    pair.hub.disk.pending = false;
    pair.lose = Box::new(|wire| matches!(wire, Wire::MarkAnswer(_)));
    pair.connect();
    assert!(pair.client.disk.pending && !pair.client.open);
    pair.lose = Box::new(|_| false);
    pair.connect();
    assert!(!pair.client.disk.pending && pair.client.open);
}

/// What an attacker on the line makes of one field of a hello or of its answer.
#[derive(Debug, Clone, Copy)]
enum Lie {
    Keys(u64),
    AnswerNonce,
    AnswerTable,
    AnswerRefused,
    HelloNonce,
    HelloTable,
}

const LIES: [Lie; 17] = [
    Lie::Keys(0),
    Lie::Keys(32),
    Lie::Keys(CHUNK),
    Lie::Keys(20_000),
    Lie::Keys(keys_from(LANE) - 32),
    Lie::Keys(keys_from(LANE)),
    Lie::Keys(keys_from(LANE) + 1),
    Lie::Keys(keys_from(LANE) + 320),
    Lie::Keys(LANE - 64),
    Lie::Keys(LANE - 32),
    Lie::Keys(LANE - 31),
    Lie::Keys(u64::MAX),
    Lie::AnswerNonce,
    Lie::AnswerTable,
    Lie::AnswerRefused,
    Lie::HelloNonce,
    Lie::HelloTable,
];

impl Lie {
    fn tell(self, wire: &mut Wire) {
        let nonce = || Nonce::random(&mut StdRng::seed_from_u64(77));
        let other = TableId::new([8; 16]);
        match (self, wire) {
            (Self::Keys(keys), Wire::HelloAnswer(Ok(back))) => back.keys = keys,
            (Self::AnswerNonce, Wire::HelloAnswer(Ok(back))) => back.nonce = nonce(),
            (Self::AnswerTable, Wire::HelloAnswer(Ok(back))) => back.table = other,
            (Self::AnswerRefused, Wire::HelloAnswer(back)) => *back = Err(Refusal::Busy),
            (Self::HelloNonce, Wire::Hello(hello)) => hello.nonce = nonce(),
            (Self::HelloTable, Wire::Hello(hello)) => hello.table = other,
            _ => {}
        }
    }
}

/// Bytes of places for tag keys of marks that an end has used.
fn places(disk: &Disk) -> u64 {
    let from = keys_from(LANE);
    (from..LANE).step_by(32).filter(|&at| end_from(&disk.keys, at) > at).count() as u64 * 32
}

/// Of the marks that a lying comparison leads to, which are withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Withheld {
    None,
    Marks,
    Answers,
}

impl Withheld {
    fn lose(self) -> Box<dyn FnMut(&Wire) -> bool> {
        Box::new(move |wire| match wire {
            Wire::Mark(_) => self == Self::Marks,
            Wire::MarkAnswer(_) => self == Self::Answers,
            _ => false,
        })
    }
}

#[test]
fn whatever_a_hello_says_costs_32_bytes_and_neither_mark_nor_keys() {
    for lie in LIES {
        for withheld in [Withheld::None, Withheld::Marks, Withheld::Answers] {
            let mut pair = Pair::new();
            pair.connect();
            let (before, sent) = (pair.client.disk.clone(), pair.marks.len());
            pair.disconnect();
            pair.alter = Box::new(move |wire| lie.tell(wire));
            pair.lose = withheld.lose();
            pair.connect();
            pair.alter = Box::new(|_| ());
            pair.lose = Box::new(|_| false);
            pair.disconnect();
            pair.connect();
            let case = format!("{lie:?}, {withheld:?} withheld");
            assert!(pair.client.open && pair.hub.open, "{case}");
            let ours = |bytes: &&Vec<u8>| claimed_range(bytes).unwrap().lane == Lane::Up;
            let marks = pair.marks[sent..].iter().filter(ours).count() as u64;
            assert_eq!(places(&pair.client.disk) - places(&before), 32 * marks, "{case}");
            assert!(pair.client.disk.mark <= before.mark + CHUNK, "{case}");
            assert!(
                pair.client.found.iter().chain(&pair.hub.found).all(|found| !found.is_notable()),
                "{case}"
            );
            assert!(!pair.client.put_back && !pair.hub.put_back, "{case}");
        }
    }
}

#[test]
fn no_lie_in_a_hello_hides_a_later_roll_back() {
    for lie in LIES {
        for withheld in [Withheld::None, Withheld::Marks, Withheld::Answers] {
            for lies_go_on in [false, true] {
                let mut pair = Pair::new();
                pair.connect();
                pair.disconnect();
                pair.alter = Box::new(move |wire| lie.tell(wire));
                pair.lose = withheld.lose();
                pair.connect();
                pair.lose = Box::new(|_| false);
                pair.alter = Box::new(|_| ());
                pair.disconnect();
                pair.connect();
                let furthest = send_and_put_back(&mut pair, true);
                if lies_go_on {
                    pair.alter = Box::new(move |wire| lie.tell(wire));
                    pair.lose = withheld.lose();
                    pair.connect();
                    pair.lose = Box::new(|_| false);
                    pair.alter = Box::new(|_| ());
                    pair.disconnect();
                }
                // Of places for marks that the copy does not know to be used, one is lost each time.
                for _ in 0..8 {
                    pair.connect();
                    if pair.client.open {
                        break;
                    }
                    pair.disconnect();
                }
                let case = format!("{lie:?}, {withheld:?} withheld, again: {lies_go_on}");
                assert!(pair.client.open, "{case}");
                for number in 100..140 {
                    let next = send_as(&mut pair, true, number);
                    assert!(next.offset >= furthest, "{next:?} was sent before: {case}");
                    pair.settle();
                }
                assert_eq!(pair.client.passed.len(), 40, "{case}");
            }
        }
    }
}

#[test]
fn tag_keys_of_marks_tell_that_a_copy_is_old_though_no_lane_has_moved() {
    for client in [true, false] {
        let mut pair = Pair::new();
        pair.connect();
        let (old_client, old_hub) = (pair.client.disk.clone(), pair.hub.disk.clone());
        pair.disconnect();
        pair.connect();
        assert_eq!((old_client.mark, old_hub.mark), (pair.client.disk.mark, pair.hub.disk.mark));
        if client {
            pair.restart_client(old_client);
        } else {
            pair.restart_hub(old_hub);
        }
        pair.connect();
        let found = if client { &pair.client.found } else { &pair.hub.found };
        assert!(found[0].put_back && found[0].skipped == 0, "{found:?}");
    }
}

#[test]
fn a_table_that_was_left_is_compared_anew_without_a_disconnect() {
    let mut pair = Pair::new();
    pair.connect();
    let marks = pair.marks.len();
    send(&mut pair.client, pair.now, 1, 5 * CHUNK);
    pair.client.input(pair.now, SyncInput::Left(TABLE));
    assert!(pair.client.run(pair.now).iter().all(|wire| matches!(wire, Wire::Mark(_))));
    assert_eq!((pair.client.dropped.as_slice(), pair.client.open), (&[Ticket(1)][..], false));
    pair.connect();
    assert!(pair.client.open && pair.marks.len() > marks);
    send(&mut pair.client, pair.now, 2, 96);
    pair.settle();
    assert_eq!(pair.client.passed, [Ticket(2)]);
    // And at the hub, whose client then begins.
    pair.hub.input(pair.now, SyncInput::Left(TABLE));
    pair.settle();
    send(&mut pair.hub, pair.now, 3, 96);
    pair.settle();
    assert_eq!(pair.hub.dropped, [Ticket(3)]);
    pair.client.input(pair.now, SyncInput::Left(TABLE));
    pair.connect();
    send(&mut pair.hub, pair.now, 4, 96);
    pair.settle();
    assert_eq!(pair.hub.passed, [Ticket(4)]);
}

/// Nothing binds a message to the connection on which its table was compared: an end that has been slow to hear of a
/// disconnect may still send what was let pass before, and it arrives after the next comparison.
#[test]
fn what_was_let_pass_on_an_older_connection_is_on_record_or_refused() {
    for client in [true, false] {
        for put_back in [false, true] {
            let mut pair = Pair::new();
            pair.connect();
            let (old_client, old_hub) = (pair.client.disk.clone(), pair.hub.disk.clone());
            let mut late = Vec::new();
            for number in 0..40 {
                late.push(send_as(&mut pair, client, number));
                pair.settle();
            }
            let passed = if client { pair.client.passed.len() } else { pair.hub.passed.len() };
            assert_eq!(passed, 40);
            // The other end alone has noticed that the connection is gone; it may come back as it was before all of them.
            if client {
                pair.hub.input(pair.now, SyncInput::Disconnected(CLIENT));
                pair.hub.run(pair.now);
                assert!(!pair.hub.open, "and accepts nothing before the next comparison");
                if put_back {
                    pair.hub = End::new(old_hub, 77);
                }
            } else {
                pair.client.input(pair.now, SyncInput::Disconnected(HUB));
                pair.client.run(pair.now);
                assert!(!pair.client.open, "and accepts nothing before the next comparison");
                if put_back {
                    pair.client = End::new(old_client, 77);
                }
            }
            // And now this one does.
            pair.disconnect();
            pair.connect();
            assert!(pair.client.open && pair.hub.open);
            let (seen, used_below) = if client {
                (pair.hub.seen(), pair.hub.used_below())
            } else {
                (pair.client.seen(), pair.client.used_below())
            };
            for range in late {
                let end = range.offset + range.len;
                assert!(
                    if put_back { end <= used_below } else { end <= seen },
                    "{range:?}, client: {client}"
                );
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Send(bool, u64),
    Reconnect,
    Restart(bool),
    PutBack(bool, usize),
    Lose(u8),
    /// From now on hellos and their answers are changed on the line.
    Lie(Lie),
    Honest,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), 32u64..2000).prop_map(|(client, bytes)| Step::Send(client, bytes)),
        2 => Just(Step::Reconnect),
        1 => any::<bool>().prop_map(Step::Restart),
        2 => (any::<bool>(), any::<usize>()).prop_map(|(client, at)| Step::PutBack(client, at)),
        2 => any::<u8>().prop_map(Step::Lose),
        2 => prop::sample::select(LIES.to_vec()).prop_map(Step::Lie),
        1 => Just(Step::Honest),
    ]
}

/// Marks of the client among those that went over the wire.
fn client_marks(marks: &[Vec<u8>]) -> usize {
    marks.iter().filter(|mark| claimed_range(mark).unwrap().lane == Lane::Up).count()
}

/// Takes these steps: no byte leaves twice in messages, marks stand apart from them, and the ends come together again.
fn take_steps(steps: Vec<Step>, seed: u64) -> Result<(), TestCaseError> {
    let mut pair = Pair::new();
    let mut left: [Vec<(u64, u64)>; 2] = [Vec::new(), Vec::new()];
    let mut copies: [Vec<Disk>; 2] = [vec![fresh()], vec![fresh()]];
    let (mut number, mut ranges) = (0, std::collections::BTreeMap::new());
    let mut chance = StdRng::seed_from_u64(seed);
    // Whether a lie names places for tag keys, and how many marks the client has made since such lies were told.
    let (mut lied, mut misled) = (false, 0);
    for step in steps {
        match step {
            Step::Send(client, bytes) => {
                number += 1;
                let end = if client { pair.client.disk.mark } else { pair.hub.disk.mark };
                if end + bytes + 4 * CHUNK > keys_from(LANE) {
                    continue;
                }
                let open = if client { pair.client.open } else { pair.hub.open };
                // A store takes no run from a table that has not been compared since the start.
                if !open {
                    continue;
                }
                let range = if client {
                    send(&mut pair.client, pair.now, number, bytes)
                } else {
                    send(&mut pair.hub, pair.now, number, bytes)
                };
                ranges.insert(Ticket(number), (client, range));
                pair.settle();
            }
            Step::Reconnect => {
                pair.disconnect();
                pair.connect();
            }
            Step::Restart(true) => {
                let disk = pair.client.disk.clone();
                pair.restart_client(disk);
                pair.connect();
            }
            Step::Restart(false) => {
                let disk = pair.hub.disk.clone();
                pair.restart_hub(disk);
                pair.connect();
            }
            Step::PutBack(client, at) => {
                // One end only between two comparisons that succeed.
                let copies = &copies[usize::from(client)];
                let disk = copies[at % copies.len()].clone();
                if client {
                    pair.restart_client(disk)
                } else {
                    pair.restart_hub(disk)
                }
                // Among lies first, which may keep it from succeeding.
                pair.connect();
                pair.disconnect();
                pair.lose = Box::new(|_| false);
                pair.alter = Box::new(|_| ());
                misled += if lied { client_marks(&pair.marks) } else { 0 };
                lied = false;
                // A place for a tag key that a lie has named, and that this end alone has forgotten, costs one more comparison.
                let mut tries = 0;
                while !(pair.client.open && pair.hub.open) {
                    prop_assert!(
                        tries <= misled,
                        "{} tries, {} marks at places that lies named",
                        tries,
                        misled
                    );
                    pair.connect();
                    tries += 1;
                }
                // A copy from before is older than what the other end will say from now on: still one-sided.
            }
            Step::Lie(lie) => {
                lied = matches!(lie, Lie::Keys(_));
                pair.alter = Box::new(move |wire| lie.tell(wire));
            }
            Step::Honest => {
                lied = false;
                pair.alter = Box::new(|_| ());
            }
            Step::Lose(percent) => {
                let mut dice = StdRng::seed_from_u64(chance.next_u64());
                pair.lose = Box::new(move |_| dice.next_u64() % 256 < u64::from(percent));
            }
        }
        for (client, passed) in
            [(true, std::mem::take(&mut pair.client.passed)), (false, std::mem::take(&mut pair.hub.passed))]
        {
            for ticket in passed {
                let (whose, range) = ranges[&ticket];
                prop_assert_eq!(whose, client);
                let lane = &mut left[usize::from(client)];
                let run = (range.offset, range.offset + range.len);
                prop_assert!(lane.iter().all(|old| old.1 <= run.0 || run.1 <= old.0), "{:?} left twice", run);
                lane.push(run);
            }
        }
        misled += if lied { client_marks(&pair.marks) } else { 0 };
        for mark in std::mem::take(&mut pair.marks) {
            prop_assert!(claimed_range(&mark).unwrap().offset >= keys_from(LANE), "a mark among messages");
        }
        if chance.next_u64().is_multiple_of(3) {
            copies[1].push(pair.client.disk.clone());
            copies[0].push(pair.hub.disk.clone());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is lost, whatever is made of hellos on the line, and whichever end is put back to whichever state (its peer
    /// not, to before the same point), no byte leaves twice in messages, and marks stand apart from them.
    #[test]
    fn no_byte_leaves_twice(steps in prop::collection::vec(step(), 1..60), seed in any::<u64>()) {
        take_steps(steps, seed)?;
    }
}

#[test]
fn a_place_that_a_lie_named_and_one_end_forgot_costs_one_more_comparison() {
    use Step::{Lie as Lies, Lose, PutBack, Reconnect, Send};
    // The hub forgets one of two places that the lie had the client use, and the client the other.
    let steps = vec![
        PutBack(false, 0),
        Send(false, 513),
        Send(false, 1024),
        Send(true, 513),
        Lies(Lie::Keys(0)),
        Send(false, 1024),
        Lies(Lie::Keys(keys_from(LANE) + 320)),
        Reconnect,
        PutBack(false, 0),
        Lose(174),
        PutBack(true, 202_621_634_086_445_243),
    ];
    take_steps(steps, 7_885_284_501_568_260_083).unwrap();
}

/// The next of the store's answers comes to an end; gives what it says to that.
fn hear_store<S: SyncSide>(end: &mut End<S>, now: Time) -> Vec<Wire> {
    if let Some(outcome) = end.slow.as_mut().and_then(VecDeque::pop_front) {
        end.input(now, SyncInput::Pad(outcome));
    }
    end.run(now)
}

#[test]
fn whatever_overtakes_whatever_nothing_is_lost_or_said_twice_and_all_comes_to_rest() {
    for seed in 0..4000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut pair = Pair::new();
        pair.connect();
        pair.now += HELLO_PAUSE;
        let Pair { client, hub, now, .. } = &mut pair;
        if seed % 2 == 1 {
            (client.slow, hub.slow) = (Some(VecDeque::new()), Some(VecDeque::new()));
        }
        // What is on its way: whether up, and what.
        let mut flying: Vec<(bool, Wire)> = Vec::new();
        let (mut sent, mut steps) = ([0_u64; 2], 0);
        let keys_before = client.disk.keys.len() + hub.disk.keys.len();
        let total = rng.random_range(2..24);
        loop {
            let waits =
                |slow: &Option<VecDeque<PadOutcome>>| slow.as_ref().is_some_and(|slow| !slow.is_empty());
            let (at_client, at_hub) = (waits(&client.slow), waits(&hub.slow));
            let left = sent[0] + sent[1] < total;
            let (up, said) = match rng.random_range(0..4) {
                0 if left => {
                    let (up, bytes) = (rng.random_bool(0.5), rng.random_range(32..CHUNK * 2));
                    let number = sent[usize::from(!up)];
                    sent[usize::from(!up)] += 1;
                    if up {
                        send(client, *now, number, bytes);
                        (true, client.run(*now))
                    } else {
                        send(hub, *now, number, bytes);
                        (false, hub.run(*now))
                    }
                }
                1 if !flying.is_empty() => match flying.swap_remove(rng.random_range(0..flying.len())) {
                    (true, wire) => (false, arrive(hub, *now, wire)),
                    (false, wire) => (true, arrive(client, *now, wire)),
                },
                2 if at_client => (true, hear_store(client, *now)),
                3 if at_hub => (false, hear_store(hub, *now)),
                _ if flying.is_empty() && !left && !at_client && !at_hub => break,
                _ => continue,
            };
            flying.extend(said.into_iter().map(|wire| (up, wire)));
            steps += 1;
            assert!(steps < 10_000, "seed {seed}: they go on without end");
        }
        let of = |end: &[Ticket]| end.iter().map(|ticket| ticket.0).collect::<Vec<_>>();
        assert!(client.lapsed == 0 && client.open && hub.open, "seed {seed}: lapsed {}", client.lapsed);
        assert_eq!((client.dropped.len(), hub.dropped.len()), (0, 0), "seed {seed}");
        assert_eq!(of(&client.passed), (0..sent[0]).collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(of(&hub.passed), (0..sent[1]).collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(client.desk.under_way() + hub.desk.under_way(), 0, "seed {seed}");
        let keys = client.disk.keys.len() + hub.disk.keys.len() - keys_before;
        assert!(keys as u64 <= 6 * total + 8, "seed {seed}: {keys} keys for {total} messages");
    }
}

//! The whole input path of the comparison of marks, at either end: hellos and marks of a peer that tells what it
//! likes under right tags, forged, stale and replayed ones, messages that want to go out, lost connections.
//!
//! What must hold: no message passes beyond what the peer has said under a right tag to have on record; each request
//! has one answer; nothing without a right tag burns anything; nothing stays held.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dske_protocol::{
    codec,
    effect::{PadOutcome, Ticket},
    hub::RequestId,
    ids::{Lane, NodeId, PadRange, TableId},
    message::{ClientMark, HubMark, Mark, Nonce, Unverified},
    params::Time,
    refusal::Refusal,
    sync::{
        ClientEnd, Connection, HelloBack, HubEnd, SyncDesk, SyncEffect, SyncHello, SyncInput, SyncSide,
        keys_from,
    },
};
use rand::{SeedableRng, rngs::StdRng};

use super::Reached;
use crate::{
    cast::{client, unsealed},
    input::{Input, mutate},
    pads::{LANE_BYTES, Pads, table_of},
};

/// Steps of one script.
const STEPS_MAX: usize = 64;

/// Peers.
const PEERS: u8 = 2;

/// Plays the input as a script; its first byte says at which end.
pub(super) fn play(input: &[u8]) -> Reached {
    let mut script = Input::new(input);
    if script.u8() & 1 == 0 {
        Stage::<HubEnd>::new().play(script)
    } else {
        Stage::<ClientEnd>::new().play(script)
    }
}

struct Stage<S: SyncSide> {
    desk: SyncDesk<S>,
    pads: Pads,
    now: Time,
    rng: StdRng,
    outcomes: VecDeque<PadOutcome>,
    /// The last nonces of each table: the desk's and the peer's.
    nonces: BTreeMap<TableId, [Nonce; 2]>,
    sent: Vec<(NodeId, Vec<u8>)>,
    /// What each peer has said under right tags to have on record.
    told: BTreeMap<TableId, u64>,
    outgoing: BTreeMap<Ticket, PadRange>,
    hellos: BTreeSet<RequestId>,
    marks: BTreeSet<RequestId>,
    next: u64,
    reached: Reached,
}

fn nonce(byte: u8) -> Nonce {
    codec::decode(&[byte; 16], 16).expect("sixteen bytes are a nonce")
}

impl<S: SyncSide> Stage<S> {
    fn new() -> Self {
        Self {
            desk: SyncDesk::new(2),
            pads: Pads::new(S::OWN, (0..PEERS).map(client)),
            now: Time::ZERO,
            rng: StdRng::seed_from_u64(7),
            outcomes: VecDeque::new(),
            nonces: BTreeMap::new(),
            sent: Vec::new(),
            told: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            hellos: BTreeSet::new(),
            marks: BTreeSet::new(),
            next: 0,
            reached: Reached::default(),
        }
    }

    fn play(mut self, mut script: Input<'_>) -> Reached {
        for _ in 0..STEPS_MAX {
            if script.is_empty() {
                break;
            }
            self.step(&mut script);
        }
        self.settle_pads();
        assert!(self.hellos.is_empty() && self.marks.is_empty(), "requests without an answer");
        self.pads.assert_nothing_held();
        (0..PEERS).for_each(|at| self.input(SyncInput::Disconnected(client(at))));
        self.settle_pads();
        assert!(self.outgoing.is_empty(), "messages that wait for ever: {:?}", self.outgoing);
        Reached { burned: self.pads.burned, forged_blocks: self.pads.forged_blocks, ..self.reached }
    }

    fn step(&mut self, script: &mut Input<'_>) {
        match script.u8() % 10 {
            0 | 1 => {
                let (peer, keys) = (client(script.u8() % PEERS), u64::from(script.u8()) * 32);
                self.hello(peer, keys);
            }
            2 => self.mark(script),
            3 => {
                if let Some((peer, bytes)) = self.sent.get(script.below(self.sent.len())).cloned() {
                    let as_answer = script.u8() & 1 != 0;
                    self.receive(peer, bytes, as_answer);
                }
            }
            4 => {
                let peer = client(script.u8() % (PEERS + 1));
                let bytes = script.chunk().to_vec();
                self.receive(peer, bytes, script.u8() & 1 != 0);
            }
            5 => {
                let (peer, offset) = (client(script.u8() % PEERS), u64::from(script.u8()) * 64);
                self.next += 1;
                let ticket = Ticket(self.next);
                let range = PadRange { table: table_of(&peer), lane: S::OWN, offset, len: 64 };
                self.outgoing.insert(ticket, range);
                self.input(SyncInput::Outgoing { ticket, peer, range });
            }
            6 => {
                let peer = client(script.u8() % PEERS);
                let left = script.u8().is_multiple_of(4);
                self.input(if left {
                    SyncInput::Left(table_of(&peer))
                } else {
                    SyncInput::Disconnected(peer)
                });
            }
            7 => {
                self.pads.trouble.mint = script.u8() & 1 != 0;
                self.pads.trouble.commit = script.u8() & 1 != 0;
                self.pads.trouble.hold = (script.u8() & 1 != 0).then_some(Refusal::TableInactive);
            }
            8 => {
                let peer = client(script.u8() % PEERS);
                self.input(SyncInput::MarkAnswer { peer, table: table_of(&peer), bytes: None });
            }
            _ => {
                let at = script.below(self.outcomes.len());
                if let Some(outcome) = self.outcomes.remove(at) {
                    self.input(SyncInput::Pad(outcome));
                }
            }
        }
        self.now += Time::from_millis(60);
        if !script.u8().is_multiple_of(4) {
            self.settle_pads();
        }
    }

    /// Begins a comparison with a peer that names a place for the tag key.
    fn hello(&mut self, peer: NodeId, keys: u64) {
        let table = table_of(&peer);
        let theirs = nonce(u8::try_from(self.next % 256).unwrap_or(0));
        if S::OWN == Lane::Up {
            self.input(SyncInput::Begin { peer, table });
            self.settle_pads();
            if let Some(nonces) = self.nonces.get_mut(&table) {
                nonces[1] = theirs;
            }
            let back = HelloBack { table, nonce: theirs, keys };
            self.input(SyncInput::HelloAnswer { peer, table, answer: Some(Ok(back)) });
        } else {
            self.next += 1;
            let id = RequestId(self.next);
            self.hellos.insert(id);
            self.nonces.insert(table, [theirs; 2]);
            let hello = SyncHello { table, nonce: theirs };
            self.input(SyncInput::Hello { id, from: peer, over: Connection(self.next % 3), hello });
        }
    }

    fn mark(&mut self, script: &mut Input<'_>) {
        let peer = client(script.u8() % PEERS);
        let [own, own_was, seen, seen_was, lease] = std::array::from_fn(|_| u64::from(script.u8()) * 64);
        let Some((range, _)) = self.pads.peer_takes_key(&peer) else { return };
        let [keys, keys_seen] =
            std::array::from_fn(|_| keys_from(LANE_BYTES as u64) + u64::from(script.u8() % 16) * 32);
        let [mine, theirs] = self.nonces.get(&range.table).copied().unwrap_or([nonce(0); 2]);
        let unsure = script.u8().is_multiple_of(8);
        let used_below = if unsure { seen_was } else { 0 };
        let nonces = [theirs, mine];
        let mark =
            Mark { range, nonces, own, own_was, seen, seen_was, used_below, lease, keys, keys_seen, unsure };
        let mut body =
            if S::OWN == Lane::Up { unsealed(&HubMark(mark)) } else { unsealed(&ClientMark(mark)) };
        mutate(script, &mut body);
        let mut bytes = self.pads.seal(body);
        mutate(script, &mut bytes);
        self.sent.push((peer, bytes.clone()));
        let as_answer = script.u8() & 1 != 0;
        self.receive(peer, bytes, as_answer);
    }

    fn receive(&mut self, from: NodeId, bytes: Vec<u8>, as_answer: bool) {
        if self.pads.expect(&bytes)
            && let Ok(message) = Unverified::<S::Peer>::decode(bytes.clone())
        {
            let mark: Mark = (*message.unverified()).into();
            let told = self.told.entry(mark.range.table).or_default();
            *told = (*told).max(mark.seen);
        }
        if as_answer {
            let table = table_of(&from);
            return self.input(SyncInput::MarkAnswer { peer: from, table, bytes: Some(bytes) });
        }
        self.next += 1;
        let id = RequestId(self.next);
        self.marks.insert(id);
        self.input(SyncInput::Mark { id, from, bytes });
    }

    fn settle_pads(&mut self) {
        // A mark may lead to a mark; what has no end is found here.
        for _ in 0..1000 {
            let Some(outcome) = self.outcomes.pop_front() else { return };
            self.input(SyncInput::Pad(outcome));
        }
        panic!("the desk asks without end");
    }

    fn input(&mut self, input: SyncInput) {
        self.desk.handle(self.now, input, &mut self.rng);
        while let Some(effect) = self.desk.poll_effect() {
            match effect {
                SyncEffect::Pad(effect) => self.outcomes.extend(self.pads.execute(effect).0),
                SyncEffect::Hello { hello, .. } => {
                    self.nonces.insert(hello.table, [hello.nonce; 2]);
                }
                SyncEffect::AnswerHello { id, result } => {
                    assert!(self.hellos.remove(&id), "one answer for each hello");
                    if let Ok(hello) = result
                        && let Some(nonces) = self.nonces.get_mut(&hello.table)
                    {
                        nonces[0] = hello.nonce;
                    }
                }
                SyncEffect::Mark { bytes, .. } => Self::check(bytes),
                SyncEffect::AnswerMark { id, result } => {
                    assert!(self.marks.remove(&id), "one answer for each mark");
                    match result {
                        Ok(bytes) => {
                            self.reached.accepted += 1;
                            Self::check(bytes);
                        }
                        Err(_) => self.reached.refused += 1,
                    }
                }
                SyncEffect::Pass(ticket) => {
                    let range = self.outgoing.remove(&ticket).expect("a message passes once");
                    let told = self.told.get(&range.table).copied().unwrap_or(0);
                    let end = range.end().unwrap_or(u64::MAX);
                    assert!(end <= told, "passed up to {end}, the peer has {told} on record");
                }
                SyncEffect::Drop(ticket) => {
                    assert!(self.outgoing.remove(&ticket).is_some(), "a message is dropped once");
                }
                SyncEffect::Synced { .. } => self.reached.accepted += 1,
                SyncEffect::Lapsed { .. } => self.reached.refused += 1,
            }
        }
    }

    fn check(bytes: Vec<u8>) {
        let message = Unverified::<S::Own>::decode(bytes).expect("what a desk sends decodes");
        assert_eq!(message.range().lane, S::OWN);
    }
}

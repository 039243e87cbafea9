//! The whole input path of a receiver, with collection and reconstruction: shares of agreements that honest
//! senders made, changed in body or share under right tags, forged, replayed, mixed, late; senders that become known
//! or do not; hubs that are excluded; jobs that end late.
//!
//! What must hold: each message has exactly one answer; nothing without a right tag burns anything; a block ends
//! once; a key that is kept is one that a sender made for that block; nothing stays held, and nothing hangs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dske_protocol::{
    ReconstructJob,
    effect::PadOutcome,
    hub::RequestId,
    ids::{BlockId, Lane, NodeId},
    params::{AcceptancePolicy, KEY_BYTES_MAX, Time, Validate},
    receiver::{Receiver, ReceiverEffect, ReceiverInput},
    refusal::Refusal,
};
use rand::{SeedableRng, rngs::StdRng};

use super::Reached;
use crate::{
    cast::{Agreed, HUBS, K_MIN, client, hub, unsealed},
    input::{Input, mutate},
    pads::{Pads, kept_key},
};

/// Steps of one script.
const STEPS_MAX: usize = 96;

/// The receiver; clients 0 and 1 are senders that it knows and does not know.
fn me() -> NodeId {
    client(2)
}

struct Stage {
    receiver: Receiver,
    pads: Pads,
    now: Time,
    outcomes: VecDeque<PadOutcome>,
    jobs: Vec<(BlockId, usize, ReconstructJob)>,
    asked: Vec<NodeId>,
    agreed: Vec<Agreed>,
    sent: Vec<(NodeId, Vec<u8>)>,
    open: BTreeMap<RequestId, bool>,
    ended: BTreeSet<BlockId>,
    rng: StdRng,
    next: u64,
    reached: Reached,
}

/// Plays the input as a script.
pub(super) fn play(input: &[u8]) -> Reached {
    let mut script = Input::new(input);
    let policy = AcceptancePolicy {
        k_min: K_MIN,
        hubs: (0..HUBS).map(hub).collect(),
        key_bytes_max: KEY_BYTES_MAX,
        deadline: Time::from_secs(10),
        validate: Validate::First,
    };
    let mut stage = Stage {
        receiver: Receiver::new(me(), policy, [client(0)]),
        pads: Pads::new(Lane::Up, (0..HUBS).map(hub)),
        now: Time::ZERO,
        outcomes: VecDeque::new(),
        jobs: Vec::new(),
        asked: Vec::new(),
        agreed: Vec::new(),
        sent: Vec::new(),
        open: BTreeMap::new(),
        ended: BTreeSet::new(),
        rng: StdRng::seed_from_u64(7),
        next: 0,
        reached: Reached::default(),
    };
    for _ in 0..STEPS_MAX {
        if script.is_empty() {
            break;
        }
        stage.step(&mut script);
    }
    stage.end();
    Reached { burned: stage.pads.burned, forged_blocks: stage.pads.forged_blocks, ..stage.reached }
}

impl Stage {
    fn step(&mut self, script: &mut Input<'_>) {
        match script.u8() % 12 {
            0 => {
                let agreed = Agreed::draw(script, me());
                self.agreed.push(agreed);
            }
            1..=4 => self.share(script),
            5 => {
                let from = hub(script.u8() % (HUBS + 1));
                let bytes = script.chunk().to_vec();
                self.receive(from, bytes);
            }
            6 => {
                if let Some((from, bytes)) = self.sent.get(script.below(self.sent.len())).cloned() {
                    let other = script.u8();
                    self.receive(if other == 0 { from } else { hub(other % (HUBS + 1)) }, bytes);
                }
            }
            7 => {
                let at = script.below(self.asked.len());
                if !self.asked.is_empty() {
                    let node = self.asked.remove(at);
                    let established = script.u8() & 1 != 0;
                    self.input(ReceiverInput::Sender { node, established });
                }
            }
            8 => {
                self.now += Time::from_millis(u64::from(script.u16()));
                self.input(ReceiverInput::Tick);
            }
            9 => {
                let at = script.below(self.jobs.len());
                self.run_job(at);
            }
            10 => self.trouble(script),
            _ => {
                let at = script.below(self.outcomes.len());
                if let Some(outcome) = self.outcomes.remove(at) {
                    self.input(ReceiverInput::Pad(outcome));
                }
            }
        }
        let patience = script.u8();
        if patience & 3 != 0 {
            self.settle_pads();
        }
        if patience & 12 != 0 {
            while !self.jobs.is_empty() {
                self.run_job(0);
            }
        }
    }

    fn trouble(&mut self, script: &mut Input<'_>) {
        match script.u8() % 5 {
            4 => {
                let from = Agreed::draw(script, me()).agreement.sender;
                let bytes = [&[17], script.chunk(), &[0; 16]].concat();
                self.input(ReceiverInput::Choice { from, bytes });
            }
            0 => self.input(ReceiverInput::ExcludeHub(hub(script.u8() % HUBS))),
            1 => self.receiver.accept_hub(hub(script.u8() % HUBS)),
            2 => self.pads.trouble.commit = true,
            _ => self.pads.trouble.hold = Some(Refusal::TablePending),
        }
    }

    /// A hub's share of an agreement; lies in it by changing share, body or sealed bytes.
    fn share(&mut self, script: &mut Input<'_>) {
        let Some(agreed) = self.agreed.get(script.below(self.agreed.len())).cloned() else { return };
        let position = script.u8() % agreed.agreement.n();
        let from = agreed.agreement.roster[usize::from(position)];
        let taken = self.pads.peer_takes(&from, agreed.agreement.burned_bytes(Lane::Down));
        let Some((range, pad)) = taken else { return };
        let mut instruction = agreed.instruction(position, range, &pad);
        if script.u8() & 1 != 0 {
            let at = script.below(instruction.share.0.len());
            instruction.share.0[at] ^= script.u8();
        }
        let mut body = unsealed(&instruction);
        mutate(script, &mut body);
        let mut bytes = self.pads.seal(body);
        mutate(script, &mut bytes);
        self.sent.push((from, bytes.clone()));
        self.receive(from, bytes);
    }

    fn receive(&mut self, from: NodeId, bytes: Vec<u8>) {
        let right = self.pads.expect(&bytes);
        self.next += 1;
        let id = RequestId(self.next);
        self.open.insert(id, right);
        self.input(ReceiverInput::KeyInstruction { id, from, bytes });
    }

    fn run_job(&mut self, at: usize) {
        if at < self.jobs.len() {
            let (block, group, job) = self.jobs.remove(at);
            let result = job.run(&mut self.rng, &|| false);
            self.input(ReceiverInput::Reconstructed { block, group, result });
        }
    }

    fn settle_pads(&mut self) {
        while let Some(outcome) = self.outcomes.pop_front() {
            self.input(ReceiverInput::Pad(outcome));
        }
    }

    fn input(&mut self, input: ReceiverInput) {
        self.receiver.handle(self.now, input);
        while let Some(effect) = self.receiver.poll_effect() {
            match effect {
                ReceiverEffect::Pad(effect) => {
                    let (outcome, record) = self.pads.execute(effect);
                    self.outcomes.extend(outcome);
                    if let Some(ended) = record.as_ref().and_then(|record| record.block.as_ref()) {
                        assert!(self.ended.insert(ended.agreement.block()), "a block ended twice");
                        match &ended.result {
                            Ok(_) => self.reached.accepted += 1,
                            Err(_) => self.reached.refused += 1,
                        }
                    }
                    if let Some((block, key)) = record.as_ref().and_then(kept_key) {
                        let made = |agreed: &Agreed| agreed.agreement.block() == block && agreed.key == key;
                        assert!(self.agreed.iter().any(made), "a key that no sender made");
                    }
                }
                ReceiverEffect::Answer { id, result } => {
                    let right = self.open.remove(&id).expect("one answer for each message");
                    assert!(right || result.is_err(), "a forged message was accepted");
                }
                ReceiverEffect::Establish(node) => {
                    assert!(!self.asked.contains(&node), "asked about one sender twice at once");
                    self.asked.push(node);
                }
                ReceiverEffect::Reconstruct { block, group, job } => self.jobs.push((block, group, job)),
                ReceiverEffect::Began(_)
                | ReceiverEffect::Offer { .. }
                | ReceiverEffect::Confirm { .. }
                | ReceiverEffect::SessionLost { .. }
                | ReceiverEffect::Heard { .. }
                | ReceiverEffect::LateShare { .. }
                | ReceiverEffect::Progress { .. } => {}
            }
        }
    }

    /// All that is open ends, and then nothing is left.
    fn end(&mut self) {
        self.settle_pads();
        while let Some(node) = self.asked.pop() {
            self.input(ReceiverInput::Sender { node, established: true });
            self.settle_pads();
        }
        for _ in 0..64 {
            self.settle_pads();
            while !self.jobs.is_empty() {
                self.run_job(0);
            }
            self.settle_pads();
            let Some(due) = self.receiver.poll_timeout() else { break };
            self.now = self.now.max(due);
            self.input(ReceiverInput::Tick);
        }
        assert!(self.open.is_empty(), "messages without an answer: {:?}", self.open);
        assert_eq!(self.receiver.poll_timeout(), None, "an agreement hangs");
        self.pads.assert_nothing_held();
    }
}

//! Whatever comes, in whatever order the pads answer: what a receiver takes for messages and agreements it gives back, once.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};

use dske_protocol::{
    ReconstructJob,
    codec::Blob,
    effect::{PadEffect, PadOutcome},
    hub::RequestId,
    ids::{BlockId, BlockNonce, Lane, NodeId, PadRange, TableId},
    message::{Agreement, Content, KeyInstruction, NO_KEY_TAG, seal},
    pad::PadBytes,
    params::{AcceptancePolicy, KEY_BYTES_MAX, PROTOCOL_VERSION, Time, Validate},
    quota::{DefaultQuota, Quota, Quotas, Spending},
    receiver::{CollectLimits, Receiver, ReceiverEffect, ReceiverInput},
    refusal::Refusal,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

const ME: NodeId = NodeId::new([1; 32]);
const HUBS: u8 = 4;
const DEADLINE: Time = Time::from_secs(10);

fn hub(at: u8) -> NodeId {
    NodeId::new([100 + at; 32])
}

fn sender(at: u8) -> NodeId {
    NodeId::new([10 + at; 32])
}

fn pad(len: u64) -> PadBytes {
    PadBytes::mint(vec![5; usize::try_from(len).unwrap()])
}

/// Something that was asked for, and has not been answered.
enum Open {
    Pad(PadOutcome, Option<BlockId>),
    Work(BlockId, usize, ReconstructJob),
    Sender(NodeId),
}

struct Bench {
    receiver: Receiver,
    now: Time,
    open: Vec<Open>,
    ended: BTreeSet<BlockId>,
    answers: BTreeMap<u64, usize>,
    sent: u64,
    rng: StdRng,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let policy = AcceptancePolicy {
            k_min: 2,
            hubs: (0..HUBS).map(hub).collect(),
            key_bytes_max: KEY_BYTES_MAX,
            deadline: DEADLINE,
            validate: if rng.random_bool(0.5) { Validate::First } else { Validate::All },
        };
        let mut receiver = Receiver::new(ME, policy, [sender(0), sender(1)]);
        let limits = CollectLimits { messages: 40, lone: 24, backed: 12, bytes: 16 << 10, late: 3 };
        receiver.set_limits(limits);
        if rng.random_bool(0.5) {
            let default = DefaultQuota::Quota(Quota::new(600, Time::from_secs(60)).unwrap());
            receiver.set_quotas(Quotas { default, ..Quotas::default() });
        }
        let (open, ended, answers) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
        Self { receiver, now: Time::ZERO, open, ended, answers, sent: 0, rng }
    }

    fn send(&mut self) {
        let from = self.rng.random_range(0..HUBS);
        let mut roster: Vec<NodeId> = (0..HUBS).map(hub).collect();
        if self.rng.random_bool(0.2) {
            roster.truncate(self.rng.random_range(2..=HUBS.into()));
        }
        let content = match self.rng.random_range(0..10) {
            0 => Content::Round { session: BlockId::new([9; 16]), round: 0, keys: 1 },
            1 => Content::Negotiation,
            _ => Content::Keys(1),
        };
        let agreement = Agreement {
            version: PROTOCOL_VERSION,
            nonce: BlockNonce::new([self.rng.random_range(0..30); 16]),
            sender: sender(self.rng.random_range(0..4)),
            receivers: vec![ME],
            purpose: if self.rng.random_bool(0.1) { "other".to_owned() } else { String::new() },
            k: 2,
            key_bytes: [1, 32, 2000][self.rng.random_range(0..3)],
            content,
            roster,
        };
        self.sent += 1;
        let len = agreement.burned_bytes(Lane::Down);
        let range = PadRange {
            table: TableId::new([from; 16]),
            lane: Lane::Down,
            offset: self.sent * (1 << 20),
            len,
        };
        let share = vec![self.rng.random(); usize::try_from(agreement.share_bytes(Lane::Down)).unwrap()];
        let message = KeyInstruction { range, agreement, key_tag: NO_KEY_TAG, share: Blob(share) };
        let mut bytes = seal(&message, pad(len).split().unwrap().1).unwrap();
        if self.rng.random_bool(0.1) {
            *bytes.last_mut().unwrap() ^= 1;
        }
        let id = RequestId(self.sent);
        self.input(ReceiverInput::KeyInstruction { id, from: hub(from), bytes });
    }

    fn input(&mut self, input: ReceiverInput) {
        self.receiver.handle(self.now, input);
        while let Some(effect) = self.receiver.poll_effect() {
            match effect {
                ReceiverEffect::Pad(PadEffect::Hold { ticket, range, block, .. }) => {
                    let fails = self.rng.random_bool(0.1);
                    let result = if fails { Err(Refusal::PadUsed) } else { Ok(pad(range.len)) };
                    let block_ended = block.is_some_and(|block| self.ended.contains(&block));
                    self.open.push(Open::Pad(PadOutcome::Held { ticket, result, block_ended }, None));
                }
                ReceiverEffect::Pad(PadEffect::Commit { ticket, record }) => {
                    let ok = self.rng.random_bool(0.95);
                    let block = record.block.map(|ended| ended.agreement.block());
                    self.open.push(Open::Pad(PadOutcome::Committed { ticket, ok }, block.filter(|_| ok)));
                }
                ReceiverEffect::Answer { id, .. } => *self.answers.entry(id.0).or_default() += 1,
                ReceiverEffect::Reconstruct { block, group, job } => {
                    self.open.push(Open::Work(block, group, job));
                }
                ReceiverEffect::Establish(node) => self.open.push(Open::Sender(node)),
                _ => {}
            }
        }
    }

    fn answer(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.open.len().min(8));
        let input = match self.open.remove(at) {
            Open::Pad(outcome, block) => {
                if let Some(block) = block {
                    assert!(self.ended.insert(block), "a block ends once");
                }
                ReceiverInput::Pad(outcome)
            }
            Open::Work(block, group, job) => {
                let result = job.run(&mut self.rng, &|| false);
                ReceiverInput::Reconstructed { block, group, result }
            }
            Open::Sender(node) => {
                let established = self.rng.random_bool(0.5);
                ReceiverInput::Sender { node, established }
            }
        };
        self.input(input);
    }
}

#[test]
fn what_a_receiver_takes_it_gives_back_whatever_comes() {
    for seed in 0..400 {
        let mut bench = Bench::new(seed);
        for _ in 0..600 {
            match bench.rng.random_range(0..20) {
                0..9 => bench.send(),
                9..18 => bench.answer(),
                18 => {
                    bench.now += Time::from_millis(bench.rng.random_range(0..4000));
                    bench.input(ReceiverInput::Tick);
                }
                _ => {
                    let node = sender(bench.rng.random_range(0..4));
                    bench.input(ReceiverInput::Sender { node, established: false });
                }
            }
            assert!(bench.receiver.taken_bytes() <= (24 << 10) + 4 * 2400, "seed {seed}");
        }
        for _ in 0..4 {
            while !bench.open.is_empty() {
                bench.answer();
            }
            bench.now += DEADLINE + DEADLINE;
            bench.input(ReceiverInput::Tick);
        }
        while !bench.open.is_empty() {
            bench.answer();
        }
        let left = (
            bench.receiver.under_way(),
            bench.receiver.held_bytes(),
            bench.receiver.taken_bytes(),
            bench.receiver.collected(),
        );
        assert_eq!(left, (0, 0, 0, 0), "seed {seed}");
        let once = (1..=bench.sent).all(|id| bench.answers.get(&id) == Some(&1));
        assert!(once, "seed {seed}: each message has one answer");
    }
}

/// Gives a receiver one message whose claim is made durable or is not; what went with it, and the answer.
fn claimed(
    receiver: &mut Receiver,
    number: u8,
    durable: bool,
) -> (Vec<Spending>, Option<Result<(), Refusal>>) {
    let agreement = Agreement {
        version: PROTOCOL_VERSION,
        nonce: BlockNonce::new([number; 16]),
        sender: sender(0),
        receivers: vec![ME],
        purpose: String::new(),
        k: 2,
        key_bytes: 32,
        content: Content::Keys(1),
        roster: (0..HUBS).map(hub).collect(),
    };
    let len = agreement.burned_bytes(Lane::Down);
    let offset = u64::from(number) * (1 << 20);
    let range = PadRange { table: TableId::new([0; 16]), lane: Lane::Down, offset, len };
    let share = Blob(vec![7; usize::try_from(agreement.share_bytes(Lane::Down)).unwrap()]);
    let message = KeyInstruction { range, agreement, key_tag: NO_KEY_TAG, share };
    let bytes = seal(&message, pad(len).split().unwrap().1).unwrap();
    let (mut spent, mut answer) = (Vec::new(), None);
    receiver.handle(
        Time::ZERO,
        ReceiverInput::KeyInstruction { id: RequestId(number.into()), from: hub(0), bytes },
    );
    while let Some(effect) = receiver.poll_effect() {
        match effect {
            ReceiverEffect::Pad(PadEffect::Hold { ticket, range, .. }) => {
                let held = PadOutcome::Held { ticket, result: Ok(pad(range.len)), block_ended: false };
                receiver.handle(Time::ZERO, ReceiverInput::Pad(held));
            }
            ReceiverEffect::Pad(PadEffect::Commit { ticket, record }) => {
                spent.extend(record.spendings);
                let committed = PadOutcome::Committed { ticket, ok: durable };
                receiver.handle(Time::ZERO, ReceiverInput::Pad(committed));
            }
            ReceiverEffect::Answer { result, .. } => answer = Some(result),
            _ => {}
        }
    }
    (spent, answer)
}

#[test]
fn a_refusal_has_a_change_recorded_with_its_claim_until_one_is_durable() {
    let policy = AcceptancePolicy {
        k_min: 2,
        hubs: (0..HUBS).map(hub).collect(),
        key_bytes_max: KEY_BYTES_MAX,
        deadline: DEADLINE,
        validate: Validate::First,
    };
    let mut receiver = Receiver::new(ME, policy, [sender(0)]);
    let set = |receiver: &mut Receiver, bytes| {
        let default = DefaultQuota::Quota(Quota::new(bytes, Time::from_secs(60)).unwrap());
        receiver.set_quotas(Quotas { default, ..Quotas::default() });
    };
    set(&mut receiver, 1000);
    let (spent, answer) = claimed(&mut receiver, 1, true);
    assert_eq!((spent.len(), answer), (1, Some(Ok(()))));
    set(&mut receiver, 100);
    for number in 2..5 {
        let (spent, answer) = claimed(&mut receiver, number, false);
        assert_eq!((spent.len(), answer), (1, Some(Err(Refusal::Internal))), "it goes with the next one");
    }
    let (spent, answer) = claimed(&mut receiver, 5, true);
    assert_eq!((spent.len(), answer), (1, Some(Err(Refusal::QuotaExceeded))));
    assert_eq!(spent[0].quota.bytes(), 100);
    let (again, answer) = claimed(&mut receiver, 6, true);
    assert_eq!((again, answer), (Vec::new(), Some(Err(Refusal::QuotaExceeded))), "once");
}

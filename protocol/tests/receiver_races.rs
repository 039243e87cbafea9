//! Shares of one agreement that are at different steps of the receiver's checks when it ends.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use dske_protocol::{
    codec::Blob,
    effect::{PadEffect, PadOutcome, Ticket},
    hub::RequestId,
    ids::{BlockNonce, Lane, NodeId, PadRange, TableId},
    message::{Agreement, Content, KeyInstruction, NO_KEY_TAG, seal},
    pad::PadBytes,
    params::{AcceptancePolicy, KEY_BYTES_MAX, PROTOCOL_VERSION, Time, Validate},
    receiver::{Receiver, ReceiverEffect, ReceiverInput},
    refusal::Refusal,
};

const ME: NodeId = NodeId::new([1; 32]);
const SENDER: NodeId = NodeId::new([2; 32]);
const DEADLINE: Duration = Duration::from_secs(10);

fn hub(at: u8) -> NodeId {
    NodeId::new([100 + at; 32])
}

fn agreement() -> Agreement {
    Agreement {
        version: PROTOCOL_VERSION,
        nonce: BlockNonce::new([7; 16]),
        sender: SENDER,
        receivers: vec![ME],
        purpose: String::new(),
        k: 2,
        key_bytes: 32,
        content: Content::Keys(1),
        roster: vec![hub(0), hub(1)],
    }
}

/// A pad whose bytes are not secret, for a message and for its receiver.
fn pad(agreement: &Agreement) -> PadBytes {
    PadBytes::mint(vec![5; usize::try_from(agreement.burned_bytes(Lane::Down)).unwrap()])
}

fn instruction(agreement: &Agreement, from: u8, offset: u64) -> Vec<u8> {
    let (pad, tag_key) = pad(agreement).split().unwrap();
    let range = PadRange {
        table: TableId::new([from; 16]),
        lane: Lane::Down,
        offset,
        len: agreement.burned_bytes(Lane::Down),
    };
    let share = Blob(pad.into_bytes().to_vec());
    let instruction = KeyInstruction { range, agreement: agreement.clone(), key_tag: NO_KEY_TAG, share };
    seal(&instruction, tag_key).unwrap()
}

struct Bench {
    receiver: Receiver,
    /// Whether the block has a durable end.
    ended: bool,
    answers: Vec<(RequestId, Result<(), Refusal>)>,
    ends: usize,
    now: Time,
}

impl Bench {
    fn new() -> Self {
        let policy = AcceptancePolicy {
            k_min: 2,
            hubs: [hub(0), hub(1)].into(),
            key_bytes_max: KEY_BYTES_MAX,
            deadline: DEADLINE,
            validate: Validate::First,
        };
        let receiver = Receiver::new(ME, policy, [SENDER]);
        Self { receiver, ended: false, answers: Vec::new(), ends: 0, now: Time::ZERO }
    }

    /// Gives a message in; the pads have not answered yet.
    fn arrives(&mut self, id: u64, from: u8, bytes: Vec<u8>) -> Ticket {
        let input = ReceiverInput::KeyInstruction { id: RequestId(id), from: hub(from), bytes };
        self.receiver.handle(Time::ZERO, input);
        match self.receiver.poll_effect() {
            Some(ReceiverEffect::Pad(PadEffect::Hold { ticket, .. })) => ticket,
            other => panic!("the run is held first, not: {other:?}"),
        }
    }

    /// The second hub names other parameters: with its word both have spoken, and the agreement ends without a key.
    /// Then it speaks as it should; `change` may alter that message on its way.
    fn three_arrive(&mut self, change: impl Fn(&mut Vec<u8>)) -> [Ticket; 3] {
        let first = agreement();
        let other = Agreement { purpose: "other".into(), ..agreement() };
        let mut third = instruction(&first, 1, first.burned_bytes(Lane::Down));
        change(&mut third);
        [
            self.arrives(1, 0, instruction(&first, 0, 0)),
            self.arrives(2, 1, instruction(&other, 1, 0)),
            self.arrives(3, 1, third),
        ]
    }

    /// The pads answer a hold with what the ledger says now; the claim that follows waits.
    fn is_held(&mut self, ticket: Ticket) -> Ticket {
        let result = Ok(pad(&agreement()));
        let outcome = PadOutcome::Held { ticket, result, block_ended: self.ended };
        self.receiver.handle(self.now, ReceiverInput::Pad(outcome));
        match self.receiver.poll_effect() {
            Some(ReceiverEffect::Pad(PadEffect::Commit { ticket, record })) => {
                assert_eq!(record.claims.len(), 1);
                ticket
            }
            other => panic!("a claim is recorded, not: {other:?}"),
        }
    }

    /// A record is durable; whatever follows from it is carried out to its end.
    fn is_durable(&mut self, ticket: Ticket) {
        self.receiver.handle(self.now, ReceiverInput::Pad(PadOutcome::Committed { ticket, ok: true }));
        while let Some(effect) = self.receiver.poll_effect() {
            match effect {
                ReceiverEffect::Pad(PadEffect::Commit { ticket, record }) => {
                    let first = !self.ended;
                    assert!(record.block.is_some() && first, "a block ends once");
                    self.ended = true;
                    let outcome = PadOutcome::Committed { ticket, ok: true };
                    self.receiver.handle(self.now, ReceiverInput::Pad(outcome));
                }
                ReceiverEffect::Answer { id, result } => self.answers.push((id, result)),
                ReceiverEffect::Progress { .. } => self.ends += 1,
                ReceiverEffect::Began(_) | ReceiverEffect::Heard { .. } => {}
                other => panic!("unexpected: {other:?}"),
            }
        }
    }
}

#[test]
fn a_share_that_passed_the_ledger_before_its_block_ended_does_not_begin_it_anew() {
    let mut bench = Bench::new();
    let [one, two, three] = bench.three_arrive(|_| ());
    let (one, two, three) = (bench.is_held(one), bench.is_held(two), bench.is_held(three));
    bench.is_durable(one);
    bench.is_durable(two);
    assert_eq!((bench.ends, bench.ended), (1, true));
    bench.is_durable(three);
    assert_eq!(bench.ends, 1, "nothing more is said about it");
    assert_eq!(bench.receiver.under_way(), 0, "nothing is collected any more");
    assert_eq!(bench.receiver.held_bytes(), 0);
    assert_eq!(bench.answers.len(), 3, "every message is answered");
    bench.receiver.handle(DEADLINE * 2, ReceiverInput::Tick);
    assert!(bench.receiver.poll_effect().is_none(), "and no deadline is left");
}

#[test]
fn a_message_on_its_way_at_the_last_moment_does_not_keep_its_block_for_longer() {
    let mut bench = Bench::new();
    let [one, two, three] = bench.three_arrive(|_| ());
    let (one, two) = (bench.is_held(one), bench.is_held(two));
    bench.is_durable(one);
    bench.is_durable(two);
    let late = bench.receiver.poll_timeout().expect("the time for late shares ends");
    bench.receiver.handle(late, ReceiverInput::Tick);
    assert_eq!(bench.receiver.under_way(), 2, "the message and the block that it names");
    assert_eq!(bench.receiver.poll_timeout(), None, "the message is what is awaited");
    let outcome = PadOutcome::Held { ticket: three, result: Err(Refusal::NotSynced), block_ended: false };
    bench.receiver.handle(late, ReceiverInput::Pad(outcome));
    assert_eq!(bench.receiver.under_way(), 0);
}

#[test]
fn what_comes_when_the_time_for_late_shares_is_over_is_refused_though_the_block_is_still_there() {
    let mut bench = Bench::new();
    let [one, two, three] = bench.three_arrive(|_| ());
    let (one, two) = (bench.is_held(one), bench.is_held(two));
    bench.is_durable(one);
    bench.is_durable(two);
    let over = bench.receiver.poll_timeout().expect("the time for late shares ends");
    bench.receiver.handle(over, ReceiverInput::Tick);
    let fourth = agreement();
    let four = bench.arrives(4, 0, instruction(&fourth, 0, fourth.burned_bytes(Lane::Down)));
    bench.now = over;
    for ticket in [three, four] {
        let claim = bench.is_held(ticket);
        bench.is_durable(claim);
    }
    let refused = Err(Refusal::BlockKnown);
    assert_eq!(bench.answers[2..], [(RequestId(3), refused), (RequestId(4), refused)]);
    assert_eq!(bench.receiver.under_way(), 0);
}

#[test]
fn a_message_that_comes_to_nothing_lets_go_of_the_block_that_it_named() {
    let mut bench = Bench::new();
    let [one, two, three] = bench.three_arrive(|forged| *forged.last_mut().unwrap() ^= 1);
    let (one, two) = (bench.is_held(one), bench.is_held(two));
    bench.is_durable(one);
    bench.is_durable(two);
    let outcome = PadOutcome::Held { ticket: three, result: Ok(pad(&agreement())), block_ended: true };
    bench.receiver.handle(Time::ZERO, ReceiverInput::Pad(outcome));
    assert!(matches!(bench.receiver.poll_effect(), Some(ReceiverEffect::Pad(PadEffect::Release { .. }))));
    let answer = bench.receiver.poll_effect();
    assert!(
        matches!(answer, Some(ReceiverEffect::Answer { result: Err(Refusal::BadTag), .. })),
        "{answer:?}"
    );
    assert_eq!(bench.receiver.under_way(), 0, "the block is forgotten");
}

//! What one hub or one sender takes is not missing to the others: places for agreements, bytes of shares, messages that
//! wait for an identity.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;

use dske_protocol::{
    Reconstructed,
    codec::Blob,
    effect::{PadEffect, PadOutcome},
    hub::RequestId,
    ids::{BlockNonce, Lane, NodeId, PadRange, TableId},
    message::{Agreement, Content, KeyInstruction, NO_KEY_TAG, seal},
    pad::PadBytes,
    params::{
        AcceptancePolicy, COLLECTING_LONE_MAX, KEY_BYTES_MAX, PROTOCOL_VERSION, SENDING_BLOCKS_MAX, Time,
        Validate, WAITING_MESSAGES_MAX,
    },
    receiver::{Receiver, ReceiverEffect, ReceiverInput},
    refusal::Refusal,
};

const ME: NodeId = NodeId::new([1; 32]);
const HUBS: u8 = 5;
const K: u8 = 3;
const DEADLINE: Time = Time::from_secs(10);

fn hub(at: u8) -> NodeId {
    NodeId::new([100 + at; 32])
}

fn sender(at: u8) -> NodeId {
    NodeId::new([10 + at; 32])
}

/// A receiver over pads whose bytes are all the same, and which answer at once.
struct Bench {
    receiver: Receiver,
    now: Time,
    next: u64,
    answers: BTreeMap<RequestId, Result<(), Refusal>>,
    asked: Vec<NodeId>,
}

impl Bench {
    fn new(established: impl IntoIterator<Item = NodeId>) -> Self {
        let policy = AcceptancePolicy {
            k_min: K,
            hubs: (0..HUBS).map(hub).collect(),
            key_bytes_max: KEY_BYTES_MAX,
            deadline: DEADLINE,
            validate: Validate::default(),
        };
        let receiver = Receiver::new(ME, policy, established);
        Self { receiver, now: Time::ZERO, next: 0, answers: BTreeMap::new(), asked: Vec::new() }
    }

    /// A hub sends its share of block number `block` of a sender. What it is answered; `None` while it waits.
    fn share(&mut self, from: u8, of: NodeId, block: u64, key_bytes: u32) -> Option<Result<(), Refusal>> {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&block.to_be_bytes());
        let agreement = Agreement {
            version: PROTOCOL_VERSION,
            nonce: BlockNonce::new(nonce),
            sender: of,
            receivers: vec![ME],
            purpose: String::new(),
            k: K,
            key_bytes,
            content: Content::Keys(1),
            roster: (0..HUBS).map(hub).collect(),
        };
        self.next += 1;
        let len = agreement.burned_bytes(Lane::Down);
        let table = TableId::new([from; 16]);
        let range = PadRange { table, lane: Lane::Down, offset: self.next * (2 << 20), len };
        let share = Blob(vec![7; usize::try_from(agreement.share_bytes(Lane::Down)).unwrap()]);
        let message = KeyInstruction { range, agreement, key_tag: NO_KEY_TAG, share };
        let bytes = seal(&message, pad(range).split().unwrap().1).unwrap();
        let id = RequestId(self.next);
        let input = ReceiverInput::KeyInstruction { id, from: hub(from), bytes };
        self.receiver.handle(self.now, input);
        self.settle();
        self.answers.remove(&id)
    }

    fn settle(&mut self) {
        while let Some(effect) = self.receiver.poll_effect() {
            let outcome = match effect {
                ReceiverEffect::Pad(PadEffect::Hold { ticket, range, .. }) => {
                    PadOutcome::Held { ticket, result: Ok(pad(range)), block_ended: false }
                }
                ReceiverEffect::Pad(PadEffect::Commit { ticket, .. }) => {
                    PadOutcome::Committed { ticket, ok: true }
                }
                ReceiverEffect::Answer { id, result } => {
                    self.answers.insert(id, result);
                    continue;
                }
                ReceiverEffect::Reconstruct { block, group, .. } => {
                    let result = Reconstructed::Nothing;
                    let input = ReceiverInput::Reconstructed { block, group, result };
                    self.receiver.handle(self.now, input);
                    continue;
                }
                ReceiverEffect::Establish(node) => {
                    self.asked.push(node);
                    continue;
                }
                _ => continue,
            };
            self.receiver.handle(self.now, ReceiverInput::Pad(outcome));
        }
    }

    /// Lets so much time pass, and a second at a time what is due in it.
    fn pass(&mut self, time: Time) {
        let end = self.now + time;
        while self.now < end {
            self.now += Time::from_secs(1);
            self.tick();
        }
    }

    fn tick(&mut self) {
        while self.receiver.poll_timeout().is_some_and(|due| due <= self.now) {
            self.receiver.handle(self.now, ReceiverInput::Tick);
            self.settle();
        }
    }
}

fn pad(range: PadRange) -> PadBytes {
    PadBytes::mint(vec![5; usize::try_from(range.len).unwrap()])
}

#[test]
fn a_hub_that_invents_blocks_and_renews_them_keeps_no_honest_hub_out() {
    let mut bench = Bench::new([sender(0)]);
    let mut invented = 1 << 32;
    for round in 0..3 {
        let mut taken = 0;
        for _ in 0..2 * COLLECTING_LONE_MAX + 100 {
            invented += 1;
            taken += usize::from(bench.share(0, sender(0), invented, 1) == Some(Ok(())));
        }
        assert!(taken >= SENDING_BLOCKS_MAX, "one hub may be ahead with all that a sender has under way");
        for number in 0..200 {
            let block = round * 1000 + number;
            for from in 1..HUBS {
                let answer = bench.share(from, sender(0), block, 1);
                assert_eq!(answer, Some(Ok(())), "hub {from}, block {block}");
            }
        }
        // The invented ones end, and the next come.
        bench.pass(DEADLINE + DEADLINE);
    }
    assert_eq!((bench.receiver.under_way(), bench.receiver.held_bytes()), (0, 0));
}

#[test]
fn a_sender_that_opens_agreements_through_one_hub_leaves_the_others_their_places() {
    let mut bench = Bench::new([sender(0), sender(1), sender(2)]);
    for number in 0..17_000 {
        bench.share(1, sender(0), number, 1);
    }
    for number in 0..200 {
        for from in 0..HUBS {
            let answer = bench.share(from, sender(1), 1 << 32 | number, 1);
            assert_eq!(answer, Some(Ok(())), "hub {from}, block {number}");
        }
    }
    // The same through all hubs at once: agreements that are real, and never end.
    for number in 100_000..117_000 {
        for from in 0..K {
            bench.share(from, sender(2), number, 1);
        }
    }
    for number in 0..200 {
        for from in 0..HUBS {
            let answer = bench.share(from, sender(1), 1 << 33 | number, 1);
            assert_eq!(answer, Some(Ok(())), "hub {from}, block {number}");
        }
    }
    bench.pass(DEADLINE + DEADLINE);
    assert_eq!((bench.receiver.under_way(), bench.receiver.held_bytes()), (0, 0));
}

#[test]
fn the_long_shares_of_one_hub_leave_room_for_those_of_the_others() {
    let mut bench = Bench::new([sender(0)]);
    let long = u32::try_from(KEY_BYTES_MAX).unwrap();
    let taken = (0..300).filter(|&number| bench.share(0, sender(0), number, long) == Some(Ok(()))).count();
    assert!(taken >= 32, "{taken} long shares of one hub");
    for from in 1..HUBS {
        assert_eq!(bench.share(from, sender(0), 1 << 32, long), Some(Ok(())), "hub {from}");
    }
    bench.pass(DEADLINE + DEADLINE);
    assert_eq!((bench.receiver.under_way(), bench.receiver.held_bytes()), (0, 0));
}

#[test]
fn a_hub_that_fills_the_queue_of_an_unknown_sender_leaves_places_to_the_others() {
    let mut bench = Bench::new([]);
    for number in 0..2 * WAITING_MESSAGES_MAX as u64 {
        bench.share(0, sender(0), number, 1);
    }
    for from in 1..HUBS {
        assert_eq!(bench.share(from, sender(0), 1 << 32, 1), None, "the message of hub {from} waits");
    }
    assert_eq!(bench.asked, [sender(0)]);
    bench.receiver.handle(bench.now, ReceiverInput::Sender { node: sender(0), established: true });
    bench.settle();
    assert_eq!(bench.answers.values().filter(|answer| answer.is_ok()).count(), bench.answers.len());
    bench.pass(DEADLINE + DEADLINE);
    assert_eq!((bench.receiver.under_way(), bench.receiver.held_bytes()), (0, 0));
}

#[test]
fn senders_whose_agreements_all_become_backed_at_once_leave_a_place_to_another() {
    let senders = 1..40;
    let mut bench = Bench::new((0..60).map(sender));
    // Each is begun through one hub, as many as that hub and each sender may have.
    let mut begun = Vec::new();
    let mut number = 0;
    for first in 0..HUBS {
        loop {
            let before = begun.len();
            for of in senders.clone() {
                number += 1;
                if bench.share(first, sender(of), number, 1) == Some(Ok(())) {
                    begun.push((first, of, number));
                }
            }
            if begun.len() == before {
                break;
            }
        }
    }
    // Then others speak for them as well: as many as make them backed, and too few to end them.
    for other in 1..K {
        for (first, of, number) in &begun {
            let _ = bench.share((first + other) % HUBS, sender(*of), *number, 1);
        }
    }
    let answers = (0..HUBS).map(|from| bench.share(from, sender(50), u64::MAX, 32));
    let answers: Vec<_> = answers.collect();
    assert!(answers.iter().all(|answer| *answer == Some(Ok(()))), "{} begun: {answers:?}", begun.len());
}

/// Enrolled clients that begin agreements through one hub each, which never become more.
#[test]
fn however_many_senders_crowd_a_hub_each_other_one_has_a_place_through_it() {
    let mut bench = Bench::new((0..80).map(sender));
    let mut number = 0;
    for from in 0..HUBS {
        let mut taken = 1;
        while taken > 0 {
            taken = 0;
            for of in 1..70 {
                number += 1;
                taken += usize::from(bench.share(from, sender(of), number, 1) == Some(Ok(())));
            }
        }
    }
    for block in 0..3 {
        let answers: Vec<_> =
            (0..HUBS).map(|from| bench.share(from, sender(75), u64::MAX - block, 32)).collect();
        assert!(answers.iter().all(|answer| *answer == Some(Ok(()))), "{answers:?}");
    }
    // A hub that invents senders has no more for that.
    let before = bench.receiver.under_way();
    for of in 0..10_000u32 {
        let mut id = [200; 32];
        id[..4].copy_from_slice(&of.to_be_bytes());
        assert_eq!(bench.share(0, NodeId::new(id), 1, 1), Some(Err(Refusal::Busy)));
    }
    assert_eq!(bench.receiver.under_way(), before);
}

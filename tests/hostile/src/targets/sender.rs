//! The whole input path of a sender: answers of hubs and notices of receivers, true and false, in any order.
//!
//! What must hold: every wish ends once; a key has at least k hubs that accepted; nothing is sent to a hub that was
//! not chosen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dske_protocol::{
    codec,
    effect::PadOutcome,
    hub::RequestId,
    ids::{BlockId, Lane, NodeId},
    message::{Content, KeyRequest, Notice, NoticeOutcome, Unverified},
    negotiation::negotiation_bytes,
    params::{MESSAGE_BYTES_MAX, Time},
    refusal::{AbortReason, Refusal},
    sender::{HubChoice, KeyWish, RoundWish, Sender, SenderEffect, SenderInput},
};
use rand::{SeedableRng, rngs::StdRng};

use super::Reached;
use crate::{
    cast::{CLIENTS, HUBS, K_MIN, client, hub, way},
    input::Input,
    pads::Pads,
};

/// Steps of one script.
const STEPS_MAX: usize = 96;

struct Stage {
    sender: Sender,
    pads: Pads,
    now: Time,
    rng: StdRng,
    outcomes: VecDeque<PadOutcome>,
    sent: Vec<(BlockId, NodeId)>,
    open: BTreeMap<RequestId, u8>,
    accepted: BTreeMap<BlockId, BTreeSet<NodeId>>,
    vouched: BTreeSet<BlockId>,
    next: u64,
    reached: Reached,
}

/// Plays the input as a script.
pub(super) fn play(input: &[u8]) -> Reached {
    let mut script = Input::new(input);
    let mut stage = Stage {
        sender: Sender::new(client(0), K_MIN),
        pads: Pads::new(Lane::Up, (0..HUBS).map(hub)),
        now: Time::ZERO,
        rng: StdRng::seed_from_u64(7),
        outcomes: VecDeque::new(),
        sent: Vec::new(),
        open: BTreeMap::new(),
        accepted: BTreeMap::new(),
        vouched: BTreeSet::new(),
        next: 0,
        reached: Reached::default(),
    };
    for _ in 0..STEPS_MAX {
        if script.is_empty() {
            break;
        }
        stage.step(&mut script);
    }
    stage.settle_pads();
    // The longest deadline is an hour off.
    stage.now += Time::from_secs(4000);
    stage.input(SenderInput::Tick);
    stage.settle_pads();
    assert!(stage.open.is_empty(), "wishes without an end: {:?}", stage.open);
    stage.pads.assert_nothing_held();
    Reached { burned: stage.pads.burned, forged_blocks: stage.pads.forged_blocks, ..stage.reached }
}

impl Stage {
    fn step(&mut self, script: &mut Input<'_>) {
        match script.u8() % 8 {
            0 => self.wish(script),
            1 | 2 => {
                let Some(&(block, to)) = self.sent.get(script.below(self.sent.len())) else { return };
                let how = script.u8();
                let from = if how & 0x80 == 0 { to } else { hub(how % (HUBS + 1)) };
                let answer = match how % 4 {
                    0 => None,
                    1 => Some(Err(Refusal::Busy)),
                    2 => Some(Err(Refusal::BadTag)),
                    _ => Some(Ok(())),
                };
                if answer == Some(Ok(())) {
                    self.accepted.entry(block).or_default().insert(from);
                }
                self.input(SenderInput::HubAnswer { block, hub: from, answer });
            }
            3 => self.notice(script),
            4 => {
                let notice: Result<Notice, _> = codec::decode(script.chunk(), MESSAGE_BYTES_MAX);
                if let Ok(notice) = notice {
                    self.vouched.insert(notice.block);
                    let (from, via) = (client(script.u8() % 4), way(script.u8()));
                    self.input(SenderInput::Notice { from, via, notice });
                }
            }
            5 => self.link(script),
            6 => {
                self.now += Time::from_millis(u64::from(script.u16()));
                self.input(SenderInput::Tick);
            }
            _ => {
                self.pads.trouble.mint = script.u8() & 3 == 3;
                self.pads.trouble.commit = script.u8() & 3 == 3;
            }
        }
        if !script.u8().is_multiple_of(4) {
            self.settle_pads();
        }
    }

    /// What comes over the link to a receiver, or through whoever passes it on: nothing under a right tag.
    fn link(&mut self, script: &mut Input<'_>) {
        let from = client(script.u8() % 4);
        let sealed = |kind: u8, body: &[u8]| [&[kind], body, &[0; 16]].concat();
        match script.u8() % 5 {
            0 => self.input(SenderInput::Offer { from, bytes: sealed(16, script.chunk()) }),
            1 => self.input(SenderInput::Confirmation { from, bytes: sealed(18, script.chunk()) }),
            2 => {
                let first = self.sender.sessions().next();
                if let Some((session, ..)) = first {
                    let via = way(script.u8()).unwrap_or(from);
                    self.input(SenderInput::SessionLost { from, via, session });
                }
            }
            3 => {
                let first = self.sender.sessions().next();
                let Some((session, ..)) = first else { return };
                let wish = RoundWish {
                    session,
                    key_bytes: u32::from(script.u16() % 300),
                    keys: u32::from(script.u8() % 4),
                    purpose: String::new(),
                    reachable: (0..HUBS).filter(|at| script.u8() >> at & 1 == 0).map(hub).collect(),
                    deadline: self.now + Time::from_secs(u64::from(script.u8())),
                };
                self.next += 1;
                let id = RequestId(self.next);
                self.open.insert(id, 0);
                self.input(SenderInput::Round { id, wish });
            }
            _ => self.input(SenderInput::Unlinked(from)),
        }
    }

    fn wish(&mut self, script: &mut Input<'_>) {
        let receivers: Vec<_> = (0..=script.u8() % 3).map(|at| client((1 + at) % (CLIENTS + 1))).collect();
        let linked = script.u8();
        let reach = script.u8();
        let k = script.u8() % 5;
        let hubs = script.u8() % (HUBS + 1);
        let negotiation = linked & 2 != 0;
        let key_bytes = u32::from(script.u16() % 300);
        let wish = KeyWish {
            linked: receivers.iter().filter(|_| linked & 1 != 0).copied().collect(),
            receivers,
            key_bytes: if negotiation { negotiation_bytes(hubs, k, 2) } else { key_bytes },
            content: if negotiation { Content::Negotiation } else { Content::Keys(1) },
            keep: false,
            confirm: false,
            purpose: "y".repeat(usize::from(script.u8() % 70)),
            k,
            n: 0,
            hubs: (0..hubs)
                .map(|at| HubChoice { node: hub(at), reachable: reach >> at & 1 == 0, left: u64::MAX })
                .collect(),
            deadline: self.now + Time::from_secs(u64::from(script.u8())),
            notice_deadline: self.now + Time::from_secs(u64::from(script.u8())),
        };
        self.next += 1;
        let id = RequestId(self.next);
        self.open.insert(id, k);
        self.input(SenderInput::Start { id, wish });
    }

    fn notice(&mut self, script: &mut Input<'_>) {
        let Some(&(block, _)) = self.sent.get(script.below(self.sent.len())) else { return };
        let from = client(script.u8() % (CLIENTS + 1));
        let outcome = match script.u8() % 3 {
            0 => NoticeOutcome::Aborted(AbortReason::Ambiguous),
            _ => {
                let (shares, falses) = (script.u8(), script.u8() % 8);
                NoticeOutcome::Validated {
                    shares,
                    false_positions: (0..falses).map(|_| script.u8()).collect(),
                }
            }
        };
        self.vouched.insert(block);
        let via = way(script.u8());
        self.input(SenderInput::Notice { from, via, notice: Notice { block, outcome } });
    }

    fn settle_pads(&mut self) {
        while let Some(outcome) = self.outcomes.pop_front() {
            self.input(SenderInput::Pad(outcome));
        }
    }

    fn input(&mut self, input: SenderInput) {
        self.sender.handle(self.now, input, &mut self.rng);
        while let Some(effect) = self.sender.poll_effect() {
            match effect {
                SenderEffect::Pad(effect) => self.outcomes.extend(self.pads.execute(effect).0),
                SenderEffect::Send { block, hub, bytes } => {
                    let message = Unverified::<KeyRequest>::decode(bytes).expect("what it sends decodes");
                    assert!(message.unverified().agreement.position(&hub).is_some());
                    self.sent.push((block, hub));
                }
                SenderEffect::Began { .. } | SenderEffect::Choose { .. } => {}
                SenderEffect::Ended { id, result, .. } => {
                    let k = self.open.remove(&id).expect("a wish ends once");
                    match &result {
                        Ok(_) => self.reached.accepted += 1,
                        Err(_) => self.reached.refused += 1,
                    }
                    if let Ok(agreed) = result {
                        assert!(!agreed.agreement.is_round(), "nobody can have confirmed it");
                        let block = agreed.agreement.block();
                        let accepted = self.accepted.get(&block).map_or(0, BTreeSet::len);
                        let vouched = self.vouched.contains(&block);
                        assert!(vouched || accepted >= usize::from(k), "a key that {accepted} hubs accepted");
                    }
                }
            }
        }
    }
}

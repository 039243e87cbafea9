//! The whole input path of a hub: genuine messages, messages whose bodies were changed under right tags, forged
//! ones, replays, messages of another's, garbage; pads that answer late, in any order, or fail.
//!
//! What must hold: each request has exactly one answer; what has no right tag burns nothing; no byte is claimed
//! twice; what goes out goes to an enabled client, under a right tag; nothing stays held.

use std::collections::BTreeMap;

use dske_protocol::{
    effect::PadOutcome,
    hub::{Hub, HubClient, HubEffect, HubInput, RequestId},
    ids::{Lane, NodeId},
    message::{IdentityClaim, IdentityRequest, KeyInstruction, Subject, Unverified},
    pad::{TAG_KEY_BYTES, TagKey},
    params::{KEY_BYTES_MAX, Time},
    refusal::Refusal,
};

use super::Reached;
use crate::{
    cast::{Agreed, CLIENTS, client, identity, signature, unsealed},
    input::{Input, mutate},
    pads::Pads,
};

/// Steps of one script.
const STEPS_MAX: usize = 64;

struct Stage {
    hub: Hub,
    pads: Pads,
    outcomes: Vec<PadOutcome>,
    sent: Vec<(NodeId, Vec<u8>)>,
    /// Answers still due, with whether the message had a right tag.
    open: BTreeMap<RequestId, bool>,
    next: u64,
    reached: Reached,
}

/// Plays the input as a script.
pub(super) fn play(input: &[u8]) -> Reached {
    let mut script = Input::new(input);
    let mut hub = Hub::new(crate::cast::hub(0), KEY_BYTES_MAX);
    for at in 0..=CLIENTS {
        // The last one is not served any more, though its table is still there.
        let enabled = at < CLIENTS;
        let (identity, signature) = (identity(at), signature(at));
        hub.set_client(HubClient { identity, signature, known_as: u64::from(at), enabled });
    }
    let pads = Pads::new(Lane::Down, (0..=CLIENTS).map(client));
    let mut stage = Stage {
        hub,
        pads,
        outcomes: Vec::new(),
        sent: Vec::new(),
        open: BTreeMap::new(),
        next: 0,
        reached: Reached::default(),
    };
    for _ in 0..STEPS_MAX {
        if script.is_empty() {
            break;
        }
        stage.step(&mut script);
    }
    while !stage.outcomes.is_empty() {
        stage.answer_pads(0);
    }
    assert!(stage.open.is_empty(), "requests without an answer: {:?}", stage.open);
    stage.pads.assert_nothing_held();
    Reached { burned: stage.pads.burned, forged_blocks: stage.pads.forged_blocks, ..stage.reached }
}

impl Stage {
    fn step(&mut self, script: &mut Input<'_>) {
        match script.u8() % 10 {
            0..=2 => self.key_request(script),
            3 => self.identity_request(script),
            4 => {
                let from = client(script.u8() % (CLIENTS + 2));
                let bytes = script.chunk().to_vec();
                self.receive(from, bytes);
            }
            5 => {
                if let Some((from, bytes)) = self.sent.get(script.below(self.sent.len())).cloned() {
                    let other = script.u8();
                    let from = if other == 0 { from } else { client(other % (CLIENTS + 2)) };
                    self.receive(from, bytes);
                }
            }
            6 => self.pads.trouble.mint = true,
            7 => self.pads.trouble.commit = true,
            8 => {
                let refusals = [Refusal::TablePending, Refusal::Internal, Refusal::TableInactive];
                self.pads.trouble.hold = refusals.get(script.below(refusals.len())).copied();
            }
            _ => {
                let at = script.below(self.outcomes.len());
                if !self.outcomes.is_empty() {
                    self.answer_pads(at);
                }
            }
        }
        // Otherwise every other script would only queue.
        if !script.u8().is_multiple_of(4) {
            while !self.outcomes.is_empty() {
                self.answer_pads(0);
            }
        }
    }

    fn key_request(&mut self, script: &mut Input<'_>) {
        let receiver = client(script.u8() % (CLIENTS + 1));
        let agreed = Agreed::draw(script, receiver);
        let from = agreed.agreement.sender;
        let position = script.u8() % agreed.agreement.n();
        let taken = self.pads.peer_takes(&from, agreed.agreement.burned_bytes(Lane::Up));
        let Some((range, pad)) = taken else { return };
        self.send(script, from, unsealed(&agreed.request(position, range, &pad)));
    }

    fn identity_request(&mut self, script: &mut Input<'_>) {
        let from = client(script.u8() % (CLIENTS + 1));
        let Some((range, _)) = self.pads.peer_takes(&from, TAG_KEY_BYTES as u64) else { return };
        let about = script.u8() % (CLIENTS + 2);
        let subject = if script.u8() & 1 == 0 {
            Subject::Node(client(about))
        } else {
            Subject::Name(identity(about).name)
        };
        self.send(script, from, unsealed(&IdentityRequest { range, subject }));
    }

    /// Sends a message after changes to its body, which is sealed then, or to the whole, which is forged then.
    fn send(&mut self, script: &mut Input<'_>, from: NodeId, mut body: Vec<u8>) {
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
        let asks_identity = bytes.first() == Some(&3);
        self.hub.handle(
            Time::ZERO,
            if asks_identity {
                HubInput::Question { id, from, bytes }
            } else {
                HubInput::KeyRequest { id, from, bytes }
            },
        );
        self.execute();
    }

    fn answer_pads(&mut self, at: usize) {
        let outcome = self.outcomes.remove(at);
        self.hub.handle(Time::ZERO, HubInput::Pad(outcome));
        self.execute();
    }

    fn execute(&mut self) {
        while let Some(effect) = self.hub.poll_effect() {
            match effect {
                HubEffect::Pad(effect) => {
                    let (outcome, record) = self.pads.execute(effect);
                    self.outcomes.extend(outcome);
                    for message in record.into_iter().flat_map(|record| record.outgoing) {
                        self.check_instruction(message.receiver, message.bytes);
                    }
                }
                HubEffect::KeyAnswer { id, result } => {
                    let right = self.open.remove(&id).expect("one answer for each request");
                    assert!(right || result.is_err(), "a forged message was accepted");
                    self.count(result.is_ok());
                }
                HubEffect::Answer { id, result } => {
                    let right = self.open.remove(&id).expect("one answer for each request");
                    assert!(right || result.is_err(), "a forged message was answered");
                    self.count(result.is_ok());
                    if let Ok(bytes) = result {
                        self.check_claim(bytes);
                    }
                }
            }
        }
    }

    fn count(&mut self, accepted: bool) {
        let counter = if accepted { &mut self.reached.accepted } else { &mut self.reached.refused };
        *counter += 1;
    }

    fn check_instruction(&mut self, receiver: NodeId, bytes: Vec<u8>) {
        let message = Unverified::<KeyInstruction>::decode(bytes).expect("what a hub sends decodes");
        assert!((0..CLIENTS).any(|at| client(at) == receiver), "for a client that is not served");
        assert_eq!(message.range().table, crate::pads::table_of(&receiver));
        assert!(message.unverified().agreement.receivers.contains(&receiver));
        self.check_tag(message);
    }

    fn check_claim(&mut self, bytes: Vec<u8>) {
        let message = Unverified::<IdentityClaim>::decode(bytes).expect("what a hub sends decodes");
        let known = message.unverified().known.clone();
        let true_claim = |at: u8| known.as_ref().is_none_or(|known| known.identity == identity(at));
        assert!((0..CLIENTS).any(true_claim), "a claim about nobody");
        self.check_tag(message);
    }

    fn check_tag<T: dske_protocol::message::Tagged>(&mut self, message: Unverified<T>) {
        let run = self.pads.read(&message.range()).expect("its run is there");
        let key = run.last_chunk::<TAG_KEY_BYTES>().expect("it has a tag key");
        assert!(message.verify(TagKey::new(*key)).is_ok(), "sent under a wrong tag");
    }
}

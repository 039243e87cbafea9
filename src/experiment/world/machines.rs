//! Executes what the machines ask for: messages handed on at once, pads in memory, jobs done on the spot.

use std::time::Instant;

use dske_protocol::{
    hub::{HubEffect, HubInput, RequestId},
    identity::{IdentityEffect, IdentityInput},
    ids::{Lane, NodeId},
    message::{Notice, NoticeOutcome, Subject, claimed_range},
    receiver::{ReceiverEffect, ReceiverInput},
    refusal::Refusal,
    sender::{SenderEffect, SenderInput},
};

use super::{Adversary, Conduct, DEADLINE, Instruction, SENDER, World};

impl World {
    pub(super) fn run_sender(&mut self) -> bool {
        let mut busy = false;
        while let Some(effect) = self.sender.poll_effect() {
            busy = true;
            match effect {
                SenderEffect::Pad(effect) => {
                    if let (Some(outcome), _) = self.pads.execute(self.sender_id, effect) {
                        self.tell_sender(SenderInput::Pad(outcome));
                    }
                }
                SenderEffect::Send { block, hub, bytes } => {
                    if let Some(answer) = self.request(hub, bytes) {
                        self.tell_sender(SenderInput::HubAnswer { block, hub, answer: Some(answer) });
                    }
                }
                SenderEffect::Began { .. } => {}
                SenderEffect::Choose { .. } => debug_assert!(false, "no rounds here"),
                SenderEffect::Ended { result, .. } => self.ended = Some(result),
            }
        }
        busy
    }

    /// A key request on its way to a hub; its answer, where there is one.
    fn request(&mut self, hub: NodeId, mut bytes: Vec<u8>) -> Option<Result<(), Refusal>> {
        let at = self.hubs.iter().position(|(id, _)| *id == hub)?;
        let conduct = self.setup.conducts[at];
        if !conduct.hears() {
            return None;
        }
        if conduct == Conduct::RequestChanged {
            change(&mut bytes);
        }
        if conduct.is_impersonated() {
            let bytes = self.impersonate(hub, conduct, bytes)?;
            self.under_way.push(Instruction { from: at, bytes });
            return Some(Ok(()));
        }
        let from = self.sender_id;
        self.hubs[at].1.handle(self.now, HubInput::KeyRequest { id: RequestId(0), from, bytes });
        let mut answer = None;
        while let Some(effect) = self.hubs[at].1.poll_effect() {
            match effect {
                HubEffect::Pad(effect) => {
                    let (outcome, outgoing) = self.pads.execute(hub, effect);
                    for mut message in outgoing.into_iter().filter(|_| conduct.delivers()) {
                        if conduct == Conduct::InstructionChanged {
                            change(&mut message.bytes);
                        }
                        self.under_way.push(Instruction { from: at, bytes: message.bytes });
                    }
                    if let Some(outcome) = outcome {
                        self.hubs[at].1.handle(self.now, HubInput::Pad(outcome));
                    }
                }
                HubEffect::KeyAnswer { result, .. } => answer = Some(result),
                HubEffect::Answer { .. } => {}
            }
        }
        answer
    }

    /// What the adversary says with a hub's pads.
    fn impersonate(&mut self, hub: NodeId, conduct: Conduct, sealed: Vec<u8>) -> Option<Vec<u8>> {
        let range = claimed_range(&sealed)?;
        let run = self.pads.hold(hub, self.sender_id, range).ok()?;
        let (request, share) = Adversary::read(sealed, run)?;
        self.pads.claim(range);
        let fresh = self
            .pads
            .mint(hub, self.receiver_id, Lane::Down, request.agreement.burned_bytes(Lane::Down))
            .ok()?;
        if conduct == Conduct::Injection {
            self.adversary.inject(hub, request, fresh)
        } else {
            self.adversary.offset(hub, request, share, fresh)
        }
    }

    pub(super) fn run_receiver(&mut self) -> bool {
        let mut busy = false;
        while let Some(effect) = self.receiver.poll_effect() {
            busy = true;
            match effect {
                ReceiverEffect::Pad(effect) => {
                    if let (Some(outcome), _) = self.pads.execute(self.receiver_id, effect) {
                        self.tell_receiver(ReceiverInput::Pad(outcome));
                    }
                }
                ReceiverEffect::Establish(node) => {
                    let hubs = self.hubs.iter().map(|(hub, _)| *hub).collect();
                    let (subject, deadline) = (Subject::Node(node), self.now + DEADLINE);
                    self.desk.handle(self.now, IdentityInput::Establish { subject, hubs, deadline });
                }
                ReceiverEffect::Reconstruct { block, group, job } => {
                    let began = Instant::now();
                    let result = job.run(&mut self.rng, &|| false);
                    let took = began.elapsed();
                    self.spent.reconstruction += took;
                    self.spent.receiver += took;
                    self.tell_receiver(ReceiverInput::Reconstructed { block, group, result });
                }
                ReceiverEffect::Progress { agreement, outcome, .. } => {
                    if matches!(outcome, NoticeOutcome::Validated { .. }) {
                        self.spent.receiver_to_key.get_or_insert(self.spent.receiver);
                    }
                    // The first verdict counts; what comes later names more liars.
                    self.verdict.get_or_insert_with(|| outcome.clone());
                    let notice = Notice { block: agreement.block(), outcome };
                    let from = self.receiver_id;
                    self.tell_sender(SenderInput::Notice { from, via: None, notice });
                }
                ReceiverEffect::Offer { .. }
                | ReceiverEffect::Confirm { .. }
                | ReceiverEffect::SessionLost { .. } => debug_assert!(false, "no rounds here"),
                ReceiverEffect::Answer { .. }
                | ReceiverEffect::Began(_)
                | ReceiverEffect::Heard { .. }
                | ReceiverEffect::LateShare { .. } => {}
            }
        }
        busy
    }

    pub(super) fn run_desk(&mut self) -> bool {
        let mut busy = false;
        while let Some(effect) = self.desk.poll_effect() {
            busy = true;
            match effect {
                IdentityEffect::Pad(effect) => {
                    if let (Some(outcome), _) = self.pads.execute(self.receiver_id, effect) {
                        self.desk.handle(self.now, IdentityInput::Pad(outcome));
                    }
                }
                IdentityEffect::Ask { inquiry, hub, bytes } => {
                    let bytes = self.ask(hub, bytes);
                    self.desk.handle(self.now, IdentityInput::Answer { inquiry, hub, bytes });
                }
                IdentityEffect::Decided { subject, result } => {
                    match &result {
                        Ok(known) => self.misled |= known.identity.name.as_str() != SENDER,
                        Err(_) => self.unknown = true,
                    }
                    if let Subject::Node(node) = subject {
                        let established = result.is_ok();
                        self.tell_receiver(ReceiverInput::Sender { node, established });
                    }
                }
                IdentityEffect::Excluded { hub, .. } => self.tell_receiver(ReceiverInput::ExcludeHub(hub)),
                IdentityEffect::Heard { .. }
                | IdentityEffect::Widened(_)
                | IdentityEffect::Contradicted { .. } => {}
            }
        }
        busy
    }

    /// An identity request of the receiver, and the hub's claim as it arrives.
    fn ask(&mut self, hub: NodeId, bytes: Vec<u8>) -> Option<Vec<u8>> {
        let at = self.hubs.iter().position(|(id, _)| *id == hub)?;
        let conduct = self.setup.conducts[at];
        if !conduct.delivers() {
            return None;
        }
        let from = self.receiver_id;
        self.hubs[at].1.handle(self.now, HubInput::Question { id: RequestId(0), from, bytes });
        let mut answer = None;
        while let Some(effect) = self.hubs[at].1.poll_effect() {
            match effect {
                HubEffect::Pad(effect) => {
                    if let (Some(outcome), _) = self.pads.execute(hub, effect) {
                        self.hubs[at].1.handle(self.now, HubInput::Pad(outcome));
                    }
                }
                HubEffect::Answer { result, .. } => answer = result.ok(),
                HubEffect::KeyAnswer { .. } => {}
            }
        }
        if conduct == Conduct::InstructionChanged
            && let Some(claim) = &mut answer
        {
            change(claim);
        }
        answer
    }
}

/// One bit of the tag.
fn change(message: &mut [u8]) {
    if let Some(last) = message.last_mut() {
        *last ^= 1;
    }
}

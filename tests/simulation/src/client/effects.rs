//! What the sender and the receiver want done, and the observer's look at it.

use std::time::Duration;

use dske_protocol::{
    Ways,
    ids::{KeyId, NodeId},
    limits::LimitsEffect,
    message::{KeyInstruction, Notice, NoticeOutcome, Subject, claimed_range},
    params::LATE_SHARES,
    receiver::{ReceiverEffect, ReceiverInput},
    refusal::{AbortReason, Refusal, SendFailure},
    sender::{AgreedKey, SenderEffect},
};
use dske_storage::BlockState;

use super::{ClientRole, Served};
use crate::{
    checker::{Ended, Invariant, body},
    core::{About, Core, Machine},
    hub::refusal_name,
    lies::{self, Lie},
    packet::{Link, Packet},
    shared::{Event, MILLI, SECOND, Shared},
    sync::Held,
};

impl ClientRole {
    pub(crate) fn execute(&mut self, core: &mut Core, shared: &mut Shared) {
        loop {
            let mut busy = false;
            while let Some(effect) = self.sender.poll_effect() {
                busy = true;
                self.sender_effect(core, shared, effect);
            }
            while let Some(effect) = self.receiver.poll_effect() {
                busy = true;
                self.receiver_effect(core, shared, effect);
            }
            while let Some(effect) = self.desk.poll_effect() {
                busy = true;
                self.desk_effect(core, shared, effect);
            }
            while let Some(effect) = self.limits.poll_effect() {
                busy = true;
                self.limits_effect(core, shared, effect);
            }
            for news in self.sync.execute(core, shared) {
                busy = true;
                self.sync_news(core, shared, news);
            }
            if !busy {
                return;
            }
        }
    }

    fn limits_effect(&mut self, core: &mut Core, shared: &mut Shared, effect: LimitsEffect) {
        match effect {
            LimitsEffect::Pad(effect) => core.effect(shared, Machine::Limits, effect),
            LimitsEffect::Tell { hub, bytes } => {
                let Some(to) = shared.plan.index(&hub) else { return };
                let bytes = match core.honest {
                    true => bytes,
                    false => lies::limits_order(shared, core.me, bytes),
                };
                self.sync.send(core, shared, Held::Ask { to, about: About::Limits, bytes });
            }
            LimitsEffect::InForce(_) => shared.count("limits in force"),
        }
    }

    fn sender_effect(&mut self, core: &mut Core, shared: &mut Shared, effect: SenderEffect) {
        match effect {
            SenderEffect::Pad(effect) => core.effect(shared, Machine::Sender, effect),
            SenderEffect::Send { block, hub, bytes } => {
                let Some(to) = shared.plan.index(&hub) else { return };
                let bytes = match core.honest {
                    true => bytes,
                    false => lies::client_request(shared, core.me, to, bytes),
                };
                self.sync.send(core, shared, Held::Ask { to, about: About::Key(block), bytes });
            }
            SenderEffect::Choose { to, ways, bytes, .. } => {
                self.link(core, shared, &to, ways, Link::Choice(bytes));
            }
            SenderEffect::Began { agreement, .. } => {
                shared.count("agreements begun");
                shared.checker.began(&agreement);
                if core.honest {
                    lies::copies(shared, &agreement);
                }
            }
            SenderEffect::Ended { id, block, result } => {
                let Some(wish) = self.under_way.remove(&id) else { return };
                if core.dead {
                    return;
                }
                if let Some(block) = block {
                    let ended = if result.is_ok() { Ended::Key } else { Ended::Nothing };
                    shared.checker.sender_ended(block, ended);
                    shared.checker.believed_end(block, &result, |one, other| {
                        shared.links.contains_key(&(one.min(other), one.max(other)))
                    });
                }
                let negotiated = self.negotiations.remove(&id);
                if let (Some(began), Ok(_)) = (negotiated, &result) {
                    // Now the round.
                    self.wishes.push((wish, began));
                    return self.look_soon(shared);
                }
                let how = match &result {
                    Ok(agreed) => {
                        self.sender_got(core, shared, agreed);
                        "wish ended: key"
                    }
                    Err(failure) => {
                        self.check_rest(core, shared, wish, failure);
                        failure_name(failure)
                    }
                };
                self.wish_ended(shared, wish, how);
            }
        }
    }

    /// A sender rests for what honest hubs have refused, and for nothing that a few bad ones say.
    fn check_rest(&self, core: &Core, shared: &mut Shared, wish: usize, failure: &SendFailure) {
        if let SendFailure::Quota { refusals, .. } = failure
            && core.honest
        {
            let receivers = shared.wishes[wish].receivers.iter().map(|&at| shared.plan.ids[at]).collect();
            shared.checker.rests(core.me, receivers, refusals);
        }
    }

    /// Sends another client something over a direct link, or through a hub that both use.
    fn tell(&mut self, core: &mut Core, shared: &mut Shared, to: usize, packet: Packet) {
        if shared.is_up(core.me, to) {
            return core.send(shared, to, packet);
        }
        let relays = self.relays(core, shared, to);
        self.relay_turn = self.relay_turn.wrapping_add(1);
        if let Some(&hub) = relays.get(self.relay_turn % relays.len().max(1)) {
            core.send(shared, hub, Packet::Relay(shared.plan.ids[to], Box::new(packet)));
        }
    }

    /// Tells another client something through every hub that both use.
    fn spread(&self, core: &mut Core, shared: &mut Shared, to: usize, packet: &Packet) {
        for hub in self.relays(core, shared, to) {
            core.send(shared, hub, Packet::Relay(shared.plan.ids[to], Box::new(packet.clone())));
        }
    }

    fn relays(&self, core: &Core, shared: &Shared, to: usize) -> Vec<usize> {
        let known = self.identities.get(&shared.plan.ids[to]);
        let both = |hub: &usize| known.is_some_and(|hubs| hubs.contains(&shared.plan.ids[*hub]));
        self.usable(core, shared).into_iter().filter(both).collect()
    }

    /// Sends another client a message about a round.
    fn link(&mut self, core: &mut Core, shared: &mut Shared, to: &NodeId, ways: Ways, mut link: Link) {
        if !core.honest && shared.rng.chance(0.3) {
            // A liar seals what it likes with its own keys, and has no others: the other end must bear nonsense.
            let len = 1 + shared.rng.index(200);
            let nonsense = shared.rng.bytes(len);
            if let Some(bytes) = link.bytes_mut() {
                bytes.splice(1..1, nonsense);
            }
        }
        let Some(to) = shared.plan.index(to) else { return };
        let packet = Packet::Link(link);
        if ways == Ways::All {
            self.spread(core, shared, to, &packet);
        }
        if ways == Ways::One || shared.is_up(core.me, to) {
            self.tell(core, shared, to, packet);
        }
    }

    fn sender_got(&mut self, core: &Core, shared: &mut Shared, agreed: &AgreedKey) {
        let block = agreed.agreement.block();
        let recorded = core.store.block(&block).ok().flatten();
        let expected = if agreed.agreement.is_round() { BlockState::Ready } else { BlockState::Taken };
        if recorded.is_none_or(|record| record.state != expected) {
            let text = format!("node {} gave the key of block {block} out before its record", core.me);
            shared.checker.fail(Invariant::DurableFirst, text);
        }
        if let Some(key) = &agreed.key {
            shared.checker.handed_out(core.me, block, &key.0);
        }
        for receiver in &agreed.agreement.receivers {
            if let Some(receiver) = shared.plan.index(receiver) {
                if agreed.agreement.is_round() {
                    shared.checker.confirmed(receiver, block);
                }
                self.hear_of(shared, receiver, block);
            }
        }
    }

    /// An application hears of a key, and will ask for it, now and then twice.
    fn hear_of(&self, shared: &mut Shared, client: usize, block: dske_protocol::ids::BlockId) {
        shared.heard_of.insert((client, block));
        let key = KeyId { block, index: 0 };
        let times = if shared.rng.chance(0.2) { 2 } else { 1 };
        for _ in 0..times {
            let delay = shared.rng.within(MILLI..=3 * SECOND);
            shared.after(delay, Event::Fetch(client, key));
        }
    }

    fn receiver_effect(&mut self, core: &mut Core, shared: &mut Shared, effect: ReceiverEffect) {
        match effect {
            ReceiverEffect::Pad(effect) => core.effect(shared, Machine::Receiver, effect),
            ReceiverEffect::Answer { id, result } => {
                let Some(served) = self.served.remove(&id.0) else { return };
                self.check_answer(core, shared, &served, result);
                if lies::draw(shared, core.me, |lie| lie == Lie::DeafReceiver).is_none() {
                    core.send(shared, served.from, Packet::InstructionAnswer(served.wire, result));
                }
            }
            ReceiverEffect::Establish(node) => {
                self.establish(core.now(shared), Subject::Node(node));
                self.inquire(core, shared);
                self.look_soon(shared);
            }
            ReceiverEffect::Reconstruct { block, group, job } => {
                let light = job.is_light();
                let result = job.run(&mut shared.rng.0, &|| false);
                if light {
                    let input = ReceiverInput::Reconstructed { block, group, result };
                    self.receiver.handle(core.now(shared), input);
                } else {
                    let (node, epoch, result) = (core.me, core.epoch, Box::new(result));
                    let delay = shared.rng.within(100..=20 * MILLI);
                    shared.after(delay, Event::Reconstructed { node, epoch, block, group, result });
                }
            }
            ReceiverEffect::Offer { to, ways, bytes, .. } => {
                self.link(core, shared, &to, ways, Link::Offer(bytes));
            }
            ReceiverEffect::Confirm { to, ways, bytes, .. } => {
                self.link(core, shared, &to, ways, Link::Confirmation(bytes));
            }
            ReceiverEffect::SessionLost { sender, session } => {
                shared.checker.said_lost(core.me, session);
                if let Some(sender) = shared.plan.index(&sender) {
                    self.spread(core, shared, sender, &Packet::Link(Link::SessionLost(session)));
                }
            }
            ReceiverEffect::Began(_) if !core.honest => {
                for (to, author, said) in lies::plays_hub(shared, core.me) {
                    core.send(shared, to, Packet::Relayed(author, Box::new(said)));
                }
            }
            ReceiverEffect::Began(_) | ReceiverEffect::Heard { .. } | ReceiverEffect::LateShare { .. } => {}
            ReceiverEffect::Progress { agreement, outcome, .. } => {
                if core.dead {
                    return;
                }
                self.check_progress(core, shared, &agreement, &outcome);
                let block = agreement.block();
                if matches!(outcome, NoticeOutcome::Validated { .. }) {
                    self.hear_of(shared, core.me, block);
                }
                shared.checker.said_end(core.me, block, &outcome);
                let outcome = lies::notice(shared, core.me, outcome);
                let Some(sender) = shared.plan.index(&agreement.sender) else { return };
                let told = agreement.is_round() && matches!(outcome, NoticeOutcome::Validated { .. });
                let notice = Packet::Notice(Notice { block, outcome });
                if shared.is_up(core.me, sender) && !agreement.is_round() {
                    core.send(shared, sender, notice);
                } else if !told {
                    self.spread(core, shared, sender, &notice);
                }
            }
        }
    }

    fn check_progress(
        &self,
        core: &Core,
        shared: &mut Shared,
        agreement: &dske_protocol::message::Agreement,
        outcome: &NoticeOutcome,
    ) {
        match outcome {
            NoticeOutcome::Validated { .. } => {
                let recorded = core.store.block(&agreement.block()).ok().flatten();
                let kept = |state: &BlockState| matches!(state, BlockState::Ready | BlockState::Taken);
                let fact = shared.checker.facts[core.me].blocks.get(&agreement.block());
                // More may be told of a key that has been void since: which share was false. k_B bad hubs can have any key void.
                let aborted = |state: &BlockState| matches!(state, BlockState::Aborted { .. });
                let gone = recorded.as_ref().is_some_and(|record| aborted(&record.state));
                let void = fact.is_some_and(|fact| {
                    fact.voidable || (gone && (fact.told_late || !shared.checker.bounds.safe))
                });
                if !void && recorded.is_none_or(|record| !kept(&record.state)) {
                    let text =
                        format!("node {} announced block {} before its record", core.me, agreement.block());
                    shared.checker.fail(Invariant::DurableFirst, text);
                }
                shared.count("validated");
            }
            NoticeOutcome::Aborted(reason) => shared.count(abort_name(reason)),
        }
        if core.honest {
            shared.checker.verdict(core.me, agreement, outcome);
        }
    }

    fn check_answer(&self, core: &Core, shared: &mut Shared, served: &Served, result: Result<(), Refusal>) {
        if !core.honest || core.dead {
            return;
        }
        match result {
            Ok(()) => {
                shared.checker.took_in(core.me, &served.bytes, &core.store);
                let Some(instruction) = body::<KeyInstruction>(&served.bytes) else { return };
                let block = instruction.agreement.block();
                let lied =
                    !shared.plan.is_hub(served.from) || lies::is_false(shared, served.from, &served.bytes);
                shared.note("took in", [core.me as u64, served.from as u64, u64::from(lied)], || {
                    let what = if lied { "a false" } else { "a true" };
                    format!("{} took in {what} share of {} for block {block}", core.me, served.from)
                });
                shared.checker.spoke(core.me, shared.plan.ids[served.from], block, lied);
                let excluded = self.hubs.get(&served.from).and_then(|view| view.excluded_at);
                if excluded.is_some_and(|at| at < served.arrived) {
                    let text = format!("node {} took in a share of a hub that it has excluded", core.me);
                    shared.checker.fail(Invariant::GenuineOnly, text);
                }
                let arrived = Duration::from_micros(served.arrived + core.clock_ahead);
                let slack = LATE_SHARES + Duration::from_millis(100);
                let ended = shared.checker.facts[core.me].blocks.get(&block).map(|fact| fact.ended);
                if ended.is_some_and(|ended| ended < self.started || ended + slack < arrived) {
                    let text = format!("node {} took in a share of block {block}, which had ended", core.me);
                    shared.checker.fail(Invariant::GenuineOnly, text);
                }
            }
            Err(Refusal::BadTag) => {
                shared.count("tags refused");
                if claimed_range(&served.bytes).is_some_and(|range| core.store.is_spent(&range)) {
                    let text = format!("node {} burned pad for a wrong tag", core.me);
                    shared.checker.fail(Invariant::GenuineOnly, text);
                }
            }
            Err(refusal) => {
                let of_liar = body::<KeyInstruction>(&served.bytes).is_some_and(|instruction| {
                    shared.checker.bad_clients.contains(&instruction.agreement.sender)
                });
                let hub_is_honest =
                    shared.plan.is_hub(served.from) && shared.plan.kits[served.from].is_none();
                let honest = hub_is_honest && !of_liar;
                if refusal == Refusal::Busy && honest && shared.checker.bounds.sharp {
                    let text =
                        format!("node {} had no room for hub {}, which sends little", core.me, served.from);
                    shared.checker.fail(Invariant::Fair, text);
                }
                shared.count(refusal_name(refusal));
            }
        }
    }
}

fn abort_name(reason: &AbortReason) -> &'static str {
    match reason {
        AbortReason::TooFewShares { .. } => "aborted: too few shares",
        AbortReason::NoneValidates { .. } => "aborted: none validates",
        AbortReason::Ambiguous => "aborted: ambiguous",
        AbortReason::WorkBound { .. } => "aborted: work bound",
        AbortReason::SenderNotEstablished => "aborted: sender not established",
        AbortReason::Internal => "aborted: store failed",
        AbortReason::QuotaExceeded { .. } => "aborted: quota exceeded",
        AbortReason::NoChoice { .. } => "aborted: no choice",
        AbortReason::UnknownRound => "aborted: unknown round",
        AbortReason::Unconfirmed => "aborted: unconfirmed",
    }
}

fn failure_name(failure: &SendFailure) -> &'static str {
    match failure {
        SendFailure::TooFewHubs { .. } => "wish ended: too few hubs",
        SendFailure::Parameters(_) => "wish ended: parameters",
        SendFailure::PadLow { .. } => "wish ended: pad low",
        SendFailure::TooFewAccepted { .. } => "wish ended: too few accepted",
        SendFailure::Quota { .. } => "wish ended: quota",
        SendFailure::ReceiverAborted { .. } => "wish ended: receiver aborted",
        SendFailure::Busy => "wish ended: busy",
        SendFailure::Internal => "wish ended: store failed",
        SendFailure::NotSynced { .. } => "wish ended: not synced",
        SendFailure::Unconfirmed { .. } => "wish ended: unconfirmed",
        SendFailure::TooFewMatch { .. } => "wish ended: too few match",
        SendFailure::NoSession => "wish ended: no session",
    }
}

//! From shares to a key, or to the reason why there is none; and when the collection of a block may go.

use std::{collections::BTreeSet, sync::Arc};

use super::{Genuine, Job, Receiver, ReceiverEffect};
use crate::{
    collect::{Collection, Outcome, Reconstructed, Share},
    effect::{BlockKey, EndedBlock, Record, SecretKey},
    ids::{BlockId, NodeId},
    message::{Agreement, Content, KeyInstruction, NoticeOutcome},
    negotiation::Session,
    params::{LATE_SHARES, Time},
    planted::{Fault, planted},
    refusal::AbortReason,
    tag::KeyTag,
    wiped::Wiped,
};

impl Receiver {
    /// A share beyond the sender's quota does not count, but its hub has spoken: where too few are left, the
    /// agreement ends at once and the sender hears why.
    pub(super) fn turn_away(&mut self, now: Time, from: NodeId, genuine: Genuine) {
        let KeyInstruction { agreement, key_tag, .. } = genuine.instruction.into_inner();
        let block = agreement.block();
        if self.open(now, from, agreement, key_tag, None) {
            self.advance(now, block);
        }
        self.retire_if_done(now, block);
    }

    /// Notes a hub's word in the collection of its block, which begins with it where there is none.
    fn open(
        &mut self,
        now: Time,
        hub: NodeId,
        agreement: Agreement,
        key_tag: KeyTag,
        share: Option<(u8, Share)>,
    ) -> bool {
        let (block, deadline) = (agreement.block(), now + self.policy.deadline);
        if !self.collections.contains_key(&block) {
            self.deadlines.insert((deadline, block));
            self.effects.push_back(ReceiverEffect::Began(agreement.clone()));
        }
        let collection = self.collections.entry(block).or_insert_with(|| Collection::new(now, deadline));
        let before = collection.held_bytes();
        let heard = share.is_some();
        let added = collection.add(hub, agreement, key_tag, share);
        self.held_bytes = self.held_bytes + collection.held_bytes() - before;
        if let Some(sender) = collection.backed_sender(self.policy.k_min) {
            self.places.backed(&block, sender);
        }
        if !added {
            self.counters.refused += 1;
        } else if heard {
            self.effects.push_back(ReceiverEffect::Heard { block, hub });
        }
        added
    }

    pub(super) fn collect(&mut self, now: Time, from: NodeId, genuine: Genuine) {
        let KeyInstruction { agreement, key_tag, share, .. } = genuine.instruction.into_inner();
        let Some(position) = agreement.position(&from) else { return };
        let mut share = Wiped::new(share.0);
        genuine.pad.apply(&mut share);
        let share: Share = Arc::new(share);
        let block = agreement.block();
        let late = self.collections.get(&block).is_some_and(|collection| collection.outcome.is_some());
        let counts = self.open(now, from, agreement, key_tag, Some((position, Arc::clone(&share))));
        if counts && !late {
            self.advance(now, block);
        } else if counts && !planted(Fault::LateShareNotChecked) {
            self.check_late(block, from, position, &share);
        }
        self.retire_if_done(now, block);
    }

    /// A share that came after the verdict: does it lie on the polynomial, and does its group make a
    /// second key possible? Nothing is announced while the verdict's record is being written.
    fn check_late(&mut self, block: BlockId, hub: NodeId, position: u8, share: &Share) {
        let Some(collection) = self.collections.get_mut(&block) else { return };
        let Some(outcome) = &mut collection.outcome else { return };
        let Some((winner, false_positions)) = &mut outcome.validated else { return };
        let group = &collection.groups[*winner];
        if group.agreement.is_round() {
            // Its sender has chosen without it; there is nothing to compare it with.
            return;
        }
        let in_winner = group.shares.iter().any(|(at, held)| *at == position && Arc::ptr_eq(&held.0, share));
        let is_true = in_winner && group.check_late(&outcome.basis, position, share).unwrap_or(false);
        if is_true {
            let shares = u8::try_from(group.shares.len()).unwrap_or(u8::MAX);
            self.effects.push_back(ReceiverEffect::LateShare { block, shares });
        } else {
            self.counters.false_shares += 1;
            // The roster in its own words may give it the place of another hub.
            false_positions.extend(group.agreement.position(&hub));
            if !collection.ending
                && let Some(validated) = collection.validated()
            {
                self.announce(block, validated);
            }
        }
    }

    /// Starts work that has become possible, or ends what cannot succeed any more.
    pub(super) fn advance(&mut self, now: Time, block: BlockId) {
        let Some(collection) = self.collections.get(&block) else { return };
        if let Some(group) = collection.ready(self.policy.validate) {
            return self.start(block, group);
        }
        if self.advance_round(now, block) {
            return;
        }
        let Some(collection) = self.collections.get(&block) else { return };
        let waiting = collection.is_busy() || collection.outcome.is_some();
        if !waiting && (collection.is_complete() || collection.deadline <= now || collection.due) {
            let reason = collection.abort_reason();
            self.abort(block, reason);
        }
    }

    /// Reconstructs a group that is ready, or has it wait until a search may begin.
    fn start(&mut self, block: BlockId, at: usize) {
        let Some(collection) = self.collections.get_mut(&block) else { return };
        let Some(group) = collection.groups.get(at) else { return };
        let sender = group.agreement.sender;
        if group.may_search() && !self.searches.begin(sender, block) {
            return;
        }
        if let Some(job) = collection.job(at, self.policy.validate) {
            self.effects.push_back(ReceiverEffect::Reconstruct { block, group: at, job });
        }
    }

    /// Begins the searches whose turn it is.
    fn next_searches(&mut self) {
        while let Some(block) = self.searches.turn() {
            let collection = self.collections.get(&block);
            match collection.and_then(|collection| collection.ready(self.policy.validate)) {
                Some(group) => self.start(block, group),
                None => self.searches.end(&block),
            }
        }
    }

    pub(super) fn reconstructed(&mut self, now: Time, block: BlockId, at: usize, result: Reconstructed) {
        self.searches.end(&block);
        self.found(now, block, at, result);
        self.next_searches();
    }

    fn found(&mut self, now: Time, block: BlockId, at: usize, result: Reconstructed) {
        let Some(collection) = self.collections.get_mut(&block) else { return };
        collection.returned();
        let Some(group) = collection.groups.get_mut(at) else { return };
        group.stopped = matches!(result, Reconstructed::WorkBound);
        let searched = group.tried > usize::from(group.agreement.k);
        match result {
            Reconstructed::Key { key, false_positions, basis } => {
                let agreement = group.agreement.clone();
                if collection.has_rival(at) {
                    // Two groups large enough to give a key each: at least k_B hubs contradict the others.
                    return self.abort(block, AbortReason::Ambiguous);
                }
                self.validate(block, at, agreement, key, false_positions, basis);
            }
            Reconstructed::Ambiguous => self.abort(block, AbortReason::Ambiguous),
            Reconstructed::Nothing | Reconstructed::WorkBound
                if searched && planted(Fault::SearchEndsAgreement) =>
            {
                let reason = collection.abort_reason();
                self.abort(block, reason);
            }
            // Shares that came meanwhile may help, and those that are still to come; `advance` ends it where none can come.
            Reconstructed::Nothing | Reconstructed::WorkBound => self.advance(now, block),
        }
    }

    pub(super) fn validate(
        &mut self,
        block: BlockId,
        at: usize,
        agreement: Agreement,
        key: SecretKey,
        false_positions: Vec<u8>,
        basis: Vec<u8>,
    ) {
        let Some(collection) = self.collections.get_mut(&block) else { return };
        let mut liars: BTreeSet<u8> = false_positions.into_iter().collect();
        // Shares that came while the work was out, and voices in other groups.
        let group = &collection.groups[at];
        for (position, share) in &group.shares {
            let seen = basis.contains(position) || liars.contains(position) || agreement.is_round();
            if !seen && group.check_late(&basis, *position, &share.0) == Some(false) {
                liars.insert(*position);
            }
        }
        for (other, group) in collection.groups.iter().enumerate() {
            if other != at {
                let members = group
                    .shares
                    .iter()
                    .filter_map(|(position, _)| group.agreement.roster.get(usize::from(*position)));
                liars.extend(members.filter_map(|hub| agreement.position(hub)));
            }
        }
        self.counters.false_shares += liars.len() as u64;
        let shares = u8::try_from(group.shares.len()).unwrap_or(u8::MAX);
        let announce = NoticeOutcome::Validated { shares, false_positions: liars.iter().copied().collect() };
        collection.outcome = Some(Outcome { validated: Some((at, liars)), basis });
        self.end_rounds(block);
        let (key, session) = match agreement.content {
            Content::Negotiation => (BlockKey::Taken, Session::new(agreement.clone(), key)),
            Content::Keys(_) | Content::Round { .. } => (BlockKey::Keep(key), None),
        };
        self.end(block, EndedBlock { agreement, sent: false, result: Ok(key) }, announce, session);
    }

    pub(super) fn abort(&mut self, block: BlockId, reason: AbortReason) {
        let Some(collection) = self.collections.get_mut(&block) else { return };
        let Some(agreement) = collection.largest().map(|group| group.agreement.clone()) else { return };
        collection.outcome = Some(Outcome { validated: None, basis: Vec::new() });
        let freed = collection.held_bytes();
        collection.forget_shares();
        self.held_bytes -= freed;
        self.places.shares_gone(&block);
        self.end_rounds(block);
        let ended = EndedBlock { agreement, sent: false, result: Err(reason.clone()) };
        self.end(block, ended, NoticeOutcome::Aborted(reason), None);
    }

    fn end(&mut self, block: BlockId, ended: EndedBlock, announce: NoticeOutcome, session: Option<Session>) {
        if planted(Fault::AnnouncedBeforeRecord) {
            self.announce(block, announce.clone());
        }
        if let Some(collection) = self.collections.get_mut(&block) {
            collection.ending = true;
        }
        let ticket = self.begin(Job::End { block, announce, session });
        self.commit(ticket, Record { block: Some(ended), ..Record::default() });
    }

    /// The record of an end is durable, or could not be made so.
    pub(super) fn ended(&mut self, now: Time, block: BlockId, announce: NoticeOutcome, durable: bool) {
        let mut outcome = if durable { announce } else { NoticeOutcome::Aborted(AbortReason::Internal) };
        if let Some(collection) = self.collections.get_mut(&block) {
            collection.ending = false;
            // More may have become known while the record was written.
            match collection.validated() {
                Some(validated) if durable => outcome = validated,
                _ => collection.withdraw(),
            }
        }
        self.announce(block, outcome);
        self.confirm(now, block);
        self.keep_confirmation(now, block);
        self.retire_if_done(now, block);
        if self.collections.contains_key(&block)
            && let Some(oldest) = self.places.ended(block)
        {
            self.hasten(now, oldest);
        }
    }

    /// Too many agreements are over and wait for late shares: the oldest waits no longer.
    fn hasten(&mut self, now: Time, block: BlockId) {
        let Some(collection) = self.collections.get_mut(&block) else { return };
        if collection.outcome.is_some() && !collection.ending {
            self.deadlines.remove(&(collection.deadline, block));
            collection.deadline = now;
            self.deadlines.insert((now, block));
            self.retire_if_done(now, block);
        }
    }

    pub(super) fn announce(&mut self, block: BlockId, outcome: NoticeOutcome) {
        let Some(collection) = self.collections.get(&block) else { return };
        let winner = collection.outcome.as_ref().and_then(|outcome| outcome.validated.as_ref());
        let group = match winner {
            Some((at, _)) => collection.groups.get(*at),
            None => collection.largest(),
        };
        let Some(agreement) = group.map(|group| group.agreement.clone()) else { return };
        let began = collection.began;
        self.effects.push_back(ReceiverEffect::Progress { agreement, outcome, began });
    }

    pub(super) fn tick(&mut self, now: Time) {
        if planted(Fault::DeadlineNeverFires) {
            return;
        }
        self.tick_offers(now);
        while let Some(&(deadline, block)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.deadlines.remove(&(deadline, block));
            if let Some(collection) = self.collections.get_mut(&block) {
                collection.due = true;
            }
            self.advance(now, block);
            self.retire_if_done(now, block);
            // Where a message is on its way the collection goes with it. Where work or a record is out, its end comes
            // back, so this is only a second look.
            let unsettled = |collection: &&mut Collection| collection.outcome.is_none() || collection.ending;
            if let Some(collection) = self.collections.get_mut(&block).filter(unsettled) {
                collection.deadline = now + LATE_SHARES;
                self.deadlines.insert((collection.deadline, block));
            }
        }
    }

    /// Whether the time for late shares of a block is over. Its collection may still be there, for messages that
    /// are on their way.
    pub(super) fn is_over(&self, now: Time, block: &BlockId) -> bool {
        self.collections.get(block).is_some_and(|collection| {
            collection.outcome.is_some() && !collection.ending && collection.deadline <= now
        })
    }

    /// Forgets a collection that has ended once nothing more is expected or its time is over; the shares that
    /// come after it find the block in the ledger. A message that was asked about before it was there may not
    /// find the collection gone: it would begin the block anew.
    pub(super) fn retire_if_done(&mut self, now: Time, block: BlockId) {
        let Some(collection) = self.collections.get_mut(&block) else { return };
        if collection.outcome.is_none() || collection.ending {
            return;
        }
        // Until then the sender of a round may ask again whether it has come to a key.
        let asked_for = collection.offered.is_some();
        let done = (collection.is_complete() && !asked_for) || collection.deadline <= now;
        if done && !self.places.is_in_flight(&block) {
            self.held_bytes -= collection.held_bytes();
            self.deadlines.remove(&(collection.deadline, block));
            self.collections.remove(&block);
            self.places.left(&block);
        } else if collection.deadline > now + LATE_SHARES {
            self.deadlines.remove(&(collection.deadline, block));
            collection.deadline = now + LATE_SHARES;
            self.deadlines.insert((collection.deadline, block));
        }
    }
}

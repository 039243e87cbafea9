//! A mark of the peer: the checks, what it is compared with, and what follows once that is on record.

use super::super::{Found, MARKS_MAX, SyncEffect, SyncSide, keys_from};
use super::{Job, Origin, Purpose, SyncDesk, Verdict};
use crate::{
    effect::{LaneMarks, PadEffect, Record, SyncRecord},
    hub::RequestId,
    ids::{Lane, NodeId, TableId},
    message::{Mark, Unverified},
    pad::PadBytes,
    params::Time,
    planted::{Fault, planted},
    refusal::Refusal,
};

impl<S: SyncSide> SyncDesk<S> {
    pub(super) fn mark(&mut self, id: RequestId, from: NodeId, bytes: Vec<u8>) {
        if self.jobs.len() >= MARKS_MAX {
            return self.refuse(Origin::Request(id), Refusal::Busy);
        }
        self.take_in(Origin::Request(id), from, bytes);
    }

    pub(super) fn mark_answered(&mut self, peer: NodeId, table: TableId, bytes: Option<Vec<u8>>) {
        let Some(session) = self.sessions.get(&table).filter(|s| s.peer == peer && s.announcing) else {
            return;
        };
        debug_assert!(session.theirs.is_some(), "a mark is sent after the hello");
        match bytes {
            Some(bytes) => {
                if self.take_in(Origin::Answer, peer, bytes) != Some(table) {
                    self.lapse(table);
                }
            }
            None => self.unanswered(table),
        }
    }

    /// Begins the checks of a mark. Gives the table that it is about, where it passes the first ones.
    fn take_in(&mut self, origin: Origin, from: NodeId, bytes: Vec<u8>) -> Option<TableId> {
        let Ok(message) = Unverified::<S::Peer>::decode(bytes) else {
            self.counters.malformed += 1;
            self.refuse(origin, Refusal::Malformed);
            return None;
        };
        let mark: Mark = (*message.unverified()).into();
        let table = mark.range.table;
        let [theirs, mine] = mark.nonces;
        if self.session(&table, [mine, theirs]).is_none_or(|session| session.peer != from) {
            self.counters.stale += 1;
            self.refuse(origin, Refusal::NotSynced);
            return None;
        }
        let ticket = self.begin(Job::Hold { origin, message });
        let range = mark.range;
        self.pad_effect(PadEffect::Hold { ticket, from, range, block: None, for_sync: true });
        Some(table)
    }

    pub(super) fn held(
        &mut self,
        origin: Origin,
        message: Unverified<S::Peer>,
        pad: Result<PadBytes, Refusal>,
    ) {
        let range = message.range();
        let pad = match pad {
            Ok(pad) => pad,
            Err(refusal) => return self.failed(origin, &range.table, refusal),
        };
        let Some((_, tag_key)) = pad.split() else {
            self.pad_effect(PadEffect::Release { range, forged_blocks: None });
            return self.failed(origin, &range.table, Refusal::Malformed);
        };
        match message.verify(tag_key) {
            Err(forged) => {
                self.counters.forged += 1;
                let forged_blocks = Some(forged.blocks);
                self.pad_effect(PadEffect::Release { range, forged_blocks });
                self.failed(origin, &range.table, Refusal::BadTag);
            }
            Ok(mark) => {
                let mark: Mark = (*mark).into();
                let [theirs, mine] = mark.nonces;
                let Some(peer) = self.session(&range.table, [mine, theirs]).map(|session| session.peer)
                else {
                    self.pad_effect(PadEffect::Release { range, forged_blocks: None });
                    return self.refuse(origin, Refusal::NotSynced);
                };
                self.ask_marks(Job::Weigh { origin, mark }, peer, range.table, false);
            }
        }
    }

    /// Compares a genuine mark with what is on record here.
    pub(super) fn weigh(&mut self, origin: Origin, mark: Mark, marks: Result<LaneMarks, Refusal>) {
        let (range, table) = (mark.range, mark.range.table);
        let marks = match marks {
            Ok(marks) => marks,
            Err(refusal) => {
                self.pad_effect(PadEffect::Release { range, forged_blocks: None });
                return self.failed(origin, &table, refusal);
            }
        };
        if !Self::is_possible(&mark, &marks) {
            // Genuine and impossible: the tag key is used up, nothing else.
            self.counters.malformed += 1;
            let ticket = self.begin(Job::Commit { origin, mark, verdict: None });
            return self.commit(ticket, range, None);
        }
        let verdict = self.verdict(&mark, &marks);
        let Verdict { found, skip_to } = verdict;
        let record = SyncRecord {
            table,
            peer_mark: mark.own,
            // A lease never lies beyond our own mark: where it would, what is to be skipped is, first.
            lease: if skip_to.is_some() { 0 } else { mark.seen },
            peer_keys: mark.keys,
            own_keys: mark.keys_seen,
            void_below: (found.put_back || found.settled).then_some(mark.own_was),
            put_back: ((found.put_back || found.settled) && S::OWN == Lane::Up).then_some(self.k_min),
            settle: found.settled,
            compared: skip_to.is_none(),
            activate: S::OWN == Lane::Up,
        };
        let ticket = self.begin(Job::Commit { origin, mark, verdict: Some(verdict) });
        self.commit(ticket, range, Some(record));
    }

    /// Whether all that a mark tells lies within the two lanes: messages in their part, tag keys of marks in theirs.
    fn is_possible(mark: &Mark, marks: &LaneMarks) -> bool {
        let (theirs, ours) = (keys_from(marks.peer_bytes), keys_from(marks.own_bytes));
        mark.own.max(mark.own_was).max(mark.lease) <= theirs
            && mark.seen.max(mark.seen_was).max(mark.used_below) <= ours
            && (theirs..=marks.peer_bytes).contains(&mark.keys)
            && (ours..=marks.own_bytes).contains(&mark.keys_seen)
            && mark.range.offset >= theirs
    }

    /// What a genuine mark means. Whatever the peer has on record of us was durable here before it was told; so where it has
    /// more than we, our directory was put back, or the peer lies.
    fn verdict(&mut self, mark: &Mark, marks: &LaneMarks) -> Verdict {
        let [theirs, mine] = mark.nonces;
        // What both had when the comparison began; what came since was told on this connection.
        let before = self
            .session(&mark.range.table, [mine, theirs])
            .filter(|session| !session.open)
            .and_then(|s| s.before);
        let skipped = mark.seen.saturating_sub(marks.own);
        let mut found = Found {
            skipped,
            put_back: skipped > 0 || mark.lease > marks.seen || mark.keys_seen > marks.keys,
            peer_put_back: before.is_some_and(|before| mark.unsure || mark.seen_was < before.lease),
            settled: before.is_some_and(|before| before.unsure),
        };
        // It was put back before this connection, and the mark that would have said so was lost; unless it is we.
        found.peer_put_back |= !found.put_back && !found.settled && mark.used_below > marks.next;
        let skip_to = if found.settled {
            Some(mark.seen.max(marks.own))
        } else if found.skipped > 0 {
            Some(mark.seen)
        } else {
            // What waits in memory lies where the peer, put back, will count everything as used.
            found.peer_put_back.then_some(marks.own.max(mark.used_below))
        };
        let skip_to = skip_to.filter(|_| !planted(Fault::SkipLeftOut));
        Verdict { found, skip_to }
    }

    pub(super) fn committed(&mut self, origin: Origin, mark: Mark, verdict: Option<Verdict>, ok: bool) {
        let table = mark.range.table;
        match verdict {
            _ if !ok => self.failed(origin, &table, Refusal::Internal),
            None => self.failed(origin, &table, Refusal::OutOfRange),
            Some(Verdict { found, skip_to: Some(to) }) => {
                let ticket = self.begin(Job::Skip { origin, mark, found });
                self.pad_effect(PadEffect::Skip { ticket, table, to });
            }
            Some(Verdict { found, skip_to: None }) => self.compared(origin, mark, found),
        }
    }

    /// What had to be skipped is, durably. Now the comparison ends, and what the peer has on record covers messages.
    pub(super) fn skipped(&mut self, origin: Origin, mark: Mark, found: Found) {
        let ticket = self.begin(Job::Lease { origin, mark, found });
        let sync = SyncRecord {
            peer_mark: mark.own,
            lease: mark.seen,
            compared: true,
            ..SyncRecord::of(mark.range.table)
        };
        let record = Record { sync: Some(sync), ..Record::default() };
        self.pad_effect(PadEffect::Commit { ticket, record: Box::new(record) });
    }

    /// Everything about a mark is durable.
    pub(super) fn compared(&mut self, origin: Origin, mark: Mark, found: Found) {
        let table = mark.range.table;
        let [theirs, mine] = mark.nonces;
        if let Some(session) = self.greeted(&table, [mine, theirs]) {
            self.forget(&table);
            self.sessions.insert(table, session);
        }
        let Some(session) = self.session(&table, [mine, theirs]) else {
            return self.refuse(origin, Refusal::NotSynced);
        };
        session.lease = session.lease.max(mark.seen);
        let (peer, nonces) = (session.peer, [mine, theirs]);
        let first = !std::mem::replace(&mut session.open, true);
        if origin == Origin::Answer {
            session.announcing = false;
            session.quiet_for = Time::ZERO;
        } else {
            session.overtaken |= session.announcing;
        }
        if first {
            self.pad_effect(PadEffect::Open(table));
        }
        if first || found.is_notable() {
            self.effects.push_back(SyncEffect::Synced { peer, table, found });
        }
        if let Origin::Request(id) = origin {
            let purpose = Purpose::Answer(id);
            self.ask_marks(Job::Compose { table, nonces, purpose, at: 0 }, peer, table, true);
        }
        self.pass_covered(&table);
        if self.sessions.get(&table).is_some_and(|session| !session.waiting.is_empty()) {
            self.announce(table, 0);
        }
        // The client's first mark told what it had before it reserved anything.
        if origin == Origin::Answer && first {
            self.announce(table, 0);
        }
    }

    pub(super) fn failed(&mut self, origin: Origin, table: &TableId, refusal: Refusal) {
        match origin {
            Origin::Request(_) => self.refuse(origin, refusal),
            Origin::Answer if refusal == Refusal::PadUsed => self.unanswered(*table),
            Origin::Answer => self.lapse(*table),
        }
    }

    fn refuse(&mut self, origin: Origin, refusal: Refusal) {
        if let Origin::Request(id) = origin {
            self.effects.push_back(SyncEffect::AnswerMark { id, result: Err(refusal) });
        }
    }
}

//! Limits that a receiver sets: taken in, in order of their versions, and confirmed.

use super::{Hub, HubEffect, Job, RequestId};
use crate::{
    effect::{MintRefusal, Minted, PadEffect, Record, Usage, Want},
    ids::{Lane, NodeId, PadRange},
    limits::LimitsRecord,
    message::{LimitsAnswer, LimitsOrder, Unverified, Verified, seal},
    pad::{PadBytes, TAG_KEY_BYTES},
    params::Time,
    planted::{Fault, planted},
    quota::Account,
    refusal::Refusal,
};

impl Hub {
    pub(super) fn limits_order(&mut self, id: RequestId, from: NodeId, bytes: Vec<u8>) {
        if !self.take_in(id, from) {
            return self.answer_identity(id, Err(Refusal::Busy));
        }
        let Ok(message) = Unverified::<LimitsOrder>::decode(bytes) else {
            self.counters.malformed += 1;
            return self.answer_identity(id, Err(Refusal::Malformed));
        };
        let range = message.range();
        let ticket = self.begin(Job::HoldLimits { id, from, message });
        self.hold(ticket, from, range);
    }

    pub(super) fn limits_held(
        &mut self,
        now: Time,
        id: RequestId,
        from: NodeId,
        message: Unverified<LimitsOrder>,
        pad: Result<PadBytes, Refusal>,
    ) {
        let range = message.range();
        let pad = match pad {
            Ok(pad) => pad,
            Err(refusal) => return self.answer_identity(id, Err(refusal)),
        };
        let Some((_, tag_key)) = pad.split() else {
            self.release(range, None);
            return self.answer_identity(id, Err(Refusal::Malformed));
        };
        let order = match message.verify(tag_key) {
            Ok(order) => order,
            Err(forged) => {
                self.counters.forged += 1;
                self.release(range, Some(forged.blocks));
                return self.answer_identity(id, Err(Refusal::BadTag));
            }
        };
        if !self.clients.get(&from).is_some_and(|client| client.enabled) {
            return self.burn_identity(id, range, Refusal::UnknownSender);
        }
        // The answer burns the client's own pad, as the answer to an inquiry does.
        let account = Account::Identity { client: from };
        match self.budgets.pay(now, [(account, self.quota_of(&account), TAG_KEY_BYTES as u64)]) {
            Err(exceeded) => {
                self.record_spendings(exceeded.changed);
                self.burn_identity(id, range, Refusal::QuotaExceeded);
            }
            Ok(spendings) if spendings.is_empty() => self.mint_limits(id, from, order),
            Ok(spendings) => {
                let ticket = self.begin(Job::SpendLimits { id, from, order, spendings: spendings.clone() });
                self.commit(ticket, Record { spendings, ..Record::default() });
            }
        }
    }

    pub(super) fn mint_limits(&mut self, id: RequestId, from: NodeId, order: Verified<LimitsOrder>) {
        let wants =
            vec![Want { peer: from, lane: Lane::Down, bytes: TAG_KEY_BYTES as u64, usage: Usage::Identity }];
        let ticket = self.begin(Job::MintLimits { id, from, order });
        self.effects.push_back(HubEffect::Pad(PadEffect::Mint { ticket, wants }));
    }

    /// Records come in the order in which they are asked for: so the version that counts is that of the last one that
    /// is being written, and a lower one that comes after it changes nothing.
    pub(super) fn limits_minted(
        &mut self,
        id: RequestId,
        from: NodeId,
        order: Verified<LimitsOrder>,
        minted: Result<Vec<Minted>, MintRefusal>,
    ) {
        let request = order.range;
        let minted = match minted.map(|minted| minted.into_iter().next()) {
            Ok(Some(minted)) => minted,
            Ok(None) | Err(MintRefusal::Internal) => {
                return self.burn_identity(id, request, Refusal::Internal);
            }
            Err(_) => return self.burn_identity(id, request, Refusal::PadLow),
        };
        let last = self.limits_being_written.get(&from).or_else(|| self.limits.get(&from));
        let written = last.map(|record| record.version);
        let contradicts =
            last.is_some_and(|last| last.version == order.version && last.limits != order.limits);
        if contradicts && !planted(Fault::OneVersionForTwoOrders) {
            // The receiver has forgotten that it used this version: were it named in answer, its word would be taken for ours.
            return self.burn_identity(id, request, Refusal::Malformed);
        }
        let LimitsOrder { version, limits, .. } = order.into_inner();
        let newer = written.is_none_or(|written| version > written) || planted(Fault::OlderLimitsTaken);
        let version = if newer { version } else { written.unwrap_or(0) };
        let answer = LimitsAnswer { range: minted.range, request, version };
        let sealed = minted.pad.split().and_then(|(_, tag_key)| seal(&answer, tag_key).ok());
        let result = sealed.ok_or(Refusal::Internal);
        let record = newer.then_some(LimitsRecord { receiver: from, hub: self.me, version, limits });
        if let Some(record) = &record {
            self.limits_being_written.insert(from, record.clone());
        }
        self.commit_limits(id, request, record, result);
    }

    fn commit_limits(
        &mut self,
        id: RequestId,
        request: PadRange,
        limits: Option<LimitsRecord>,
        result: Result<Vec<u8>, Refusal>,
    ) {
        let ticket = self.begin(Job::CommitLimits { id, limits: limits.clone(), result });
        let claims = vec![(request, Usage::Identity)];
        let limits = limits.filter(|_| !planted(Fault::LimitsNotRecorded));
        self.commit(ticket, Record { claims, limits, ..Record::default() });
    }

    pub(super) fn limits_committed(
        &mut self,
        now: Time,
        id: RequestId,
        limits: Option<LimitsRecord>,
        result: Result<Vec<u8>, Refusal>,
        ok: bool,
    ) {
        if let Some(record) = limits {
            let receiver = record.receiver;
            let last = self.limits_being_written.get(&receiver).map(|last| last.version);
            if last == Some(record.version) {
                self.limits_being_written.remove(&receiver);
            }
            let known = self.limits.get(&receiver).map(|record| record.version);
            let newer = known.is_none_or(|known| record.version > known);
            if ok && (newer || planted(Fault::OlderLimitsTaken)) {
                self.limits.insert(receiver, record);
                let mut budgets = std::mem::take(&mut self.budgets);
                let changed = budgets.limits_changed(now, receiver, |account| self.quota_of(account));
                self.budgets = budgets;
                self.record_spendings(changed);
            }
        }
        self.answer_identity(id, if ok { result } else { Err(Refusal::Internal) });
    }
}

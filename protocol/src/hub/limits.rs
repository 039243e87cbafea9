//! Limits that a receiver sets: taken in, in order of their versions, and confirmed.

use super::{Hub, HubEffect, Job, RequestId};
use crate::{
    effect::{MintRefusal, Minted, PadEffect, Record, Usage, Want},
    ids::{Lane, NodeId, PadRange},
    limits::LimitsRecord,
    message::{LimitsAnswer, LimitsOrder, Unverified, Verified, seal},
    pad::{PadBytes, TAG_KEY_BYTES},
    params::Time,
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
            Err(_) => self.burn_identity(id, range, Refusal::QuotaExceeded),
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
        let known = self.limits.get(&from).map(|record| record.version);
        let written = known.max(self.limits_being_written.get(&from).copied());
        let LimitsOrder { version, limits, .. } = order.into_inner();
        let newer = written.is_none_or(|written| version > written);
        let version = if newer { version } else { written.unwrap_or(0) };
        let answer = LimitsAnswer { range: minted.range, request, version };
        let sealed = minted.pad.split().and_then(|(_, tag_key)| seal(&answer, tag_key).ok());
        let result = sealed.ok_or(Refusal::Internal);
        let record = newer.then_some(LimitsRecord { receiver: from, hub: self.me, version, limits });
        if record.is_some() {
            self.limits_being_written.insert(from, version);
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
        self.commit(ticket, Record { claims, limits, ..Record::default() });
    }

    pub(super) fn limits_committed(
        &mut self,
        id: RequestId,
        limits: Option<LimitsRecord>,
        result: Result<Vec<u8>, Refusal>,
        ok: bool,
    ) {
        if let Some(record) = limits {
            let receiver = record.receiver;
            if self.limits_being_written.get(&receiver) == Some(&record.version) {
                self.limits_being_written.remove(&receiver);
            }
            let known = self.limits.get(&receiver).map(|record| record.version);
            if ok && known.is_none_or(|known| record.version > known) {
                self.limits.insert(receiver, record);
            }
        }
        self.answer_identity(id, if ok { result } else { Err(Refusal::Internal) });
    }
}

//! Identity requests: who somebody is, as far as this hub knows.

use super::{Hub, HubClient, HubEffect, Job, RequestId, claims};
use crate::{
    effect::{MintRefusal, Minted, PadEffect, Record, Usage, Want},
    ids::{Lane, NodeId, PadRange},
    message::{IdentityClaim, IdentityRequest, KnownClient, Subject, Unverified, Verified, seal},
    pad::{PadBytes, TAG_KEY_BYTES},
    params::Time,
    quota::Account,
    refusal::Refusal,
};

impl Hub {
    pub(super) fn identity_request(&mut self, id: RequestId, from: NodeId, bytes: Vec<u8>) {
        if !self.take_in(id, from) {
            return self.answer_identity(id, Err(Refusal::Busy));
        }
        let Ok(message) = Unverified::<IdentityRequest>::decode(bytes) else {
            self.counters.malformed += 1;
            return self.answer_identity(id, Err(Refusal::Malformed));
        };
        let range = message.range();
        let ticket = self.begin(Job::HoldIdentity { id, from, message });
        self.hold(ticket, from, range);
    }

    pub(super) fn identity_held(
        &mut self,
        now: Time,
        id: RequestId,
        from: NodeId,
        message: Unverified<IdentityRequest>,
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
        let request = match message.verify(tag_key) {
            Ok(request) => request,
            Err(forged) => {
                self.counters.forged += 1;
                self.release(range, Some(forged.blocks));
                return self.answer_identity(id, Err(Refusal::BadTag));
            }
        };
        if !self.clients.get(&from).is_some_and(|client| client.enabled) {
            return self.burn_identity(id, range, Refusal::UnknownSender);
        }
        let account = Account::Identity { client: from };
        match self.budgets.pay(now, [(account, self.quota_of(&account), TAG_KEY_BYTES as u64)]) {
            Err(exceeded) => {
                self.record_spendings(exceeded.changed);
                self.burn_identity(id, range, Refusal::QuotaExceeded);
            }
            Ok(spendings) if spendings.is_empty() => self.mint_identity(id, from, request),
            Ok(spendings) => {
                let ticket =
                    self.begin(Job::SpendIdentity { id, from, request, spendings: spendings.clone() });
                self.commit(ticket, Record { spendings, ..Record::default() });
            }
        }
    }

    pub(super) fn mint_identity(&mut self, id: RequestId, from: NodeId, request: Verified<IdentityRequest>) {
        let known = self.find(&request.subject).map(|HubClient { identity, signature, known_as, .. }| {
            KnownClient { identity: identity.clone(), signature: *signature, known_as: *known_as }
        });
        let wants =
            vec![Want { peer: from, lane: Lane::Down, bytes: TAG_KEY_BYTES as u64, usage: Usage::Identity }];
        let ticket = self.begin(Job::MintIdentity { id, request, known });
        self.effects.push_back(HubEffect::Pad(PadEffect::Mint { ticket, wants }));
    }

    fn find(&self, subject: &Subject) -> Option<&HubClient> {
        let node = match subject {
            Subject::Node(node) => node,
            Subject::Name(name) => self.names.get(name)?,
        };
        self.clients.get(node).filter(|client| client.enabled)
    }

    pub(super) fn identity_minted(
        &mut self,
        id: RequestId,
        request: &Verified<IdentityRequest>,
        known: Option<KnownClient>,
        minted: Result<Vec<Minted>, MintRefusal>,
    ) {
        let minted = match minted.map(|minted| minted.into_iter().next()) {
            Ok(Some(minted)) => minted,
            Ok(None) | Err(MintRefusal::Internal) => {
                return self.burn_identity(id, request.range, Refusal::Internal);
            }
            Err(_) => return self.burn_identity(id, request.range, Refusal::PadLow),
        };
        let claim = IdentityClaim { range: minted.range, request: request.range, known };
        let sealed = minted.pad.split().and_then(|(_, tag_key)| seal(&claim, tag_key).ok());
        let result = sealed.ok_or(Refusal::Internal);
        let ticket = self.begin(Job::CommitIdentity { id, result });
        self.commit(ticket, claims(request.range, Usage::Identity));
    }

    pub(super) fn burn_identity(&mut self, id: RequestId, range: PadRange, refusal: Refusal) {
        self.counters.refused += 1;
        let ticket = self.begin(Job::CommitIdentity { id, result: Err(refusal) });
        self.commit(ticket, claims(range, Usage::Identity));
    }

    pub(super) fn answer_identity(&mut self, id: RequestId, result: Result<Vec<u8>, Refusal>) {
        self.let_out(id);
        self.count(result.as_ref().err().copied());
        self.effects.push_back(HubEffect::Answer { id, result });
    }
}

//! Key requests: from the held run to the messages for the receivers.

use super::{Hub, HubEffect, HubFault, Job, RequestId, SecretShare, claims};
use crate::{
    codec::Blob,
    effect::{MintRefusal, Minted, Outgoing, PadEffect, Record, Usage, Want},
    ids::{Lane, NodeId, PadRange},
    message::{Content, KeyInstruction, KeyRequest, Unverified, Verified, seal},
    pad::{PadBytes, TAG_BYTES},
    params::{Time, U_BYTES},
    planted::{Fault, planted},
    quota::{Account, Spending},
    refusal::Refusal,
    tag::KeyTag,
    wiped::Wiped,
};

impl Hub {
    pub(super) fn key_request(&mut self, id: RequestId, from: NodeId, bytes: Vec<u8>) {
        if !self.take_in(id, from) {
            return self.answer_key(id, Err(Refusal::Busy));
        }
        let Ok(message) = Unverified::<KeyRequest>::decode(bytes) else {
            self.counters.malformed += 1;
            return self.answer_key(id, Err(Refusal::Malformed));
        };
        let range = message.range();
        let ticket = self.begin(Job::HoldKey { id, from, message });
        self.hold(ticket, from, range);
    }

    pub(super) fn key_held(
        &mut self,
        now: Time,
        id: RequestId,
        from: NodeId,
        message: Unverified<KeyRequest>,
        pad: Result<PadBytes, Refusal>,
    ) {
        let range = message.range();
        let pad = match pad {
            Ok(pad) => pad,
            Err(refusal) => return self.answer_key(id, Err(refusal)),
        };
        let Some((pad, tag_key)) = pad.split() else {
            self.release(range, None);
            return self.answer_key(id, Err(Refusal::Malformed));
        };
        let request = match message.verify(tag_key) {
            Ok(request) => request,
            Err(forged) => {
                self.counters.forged += 1;
                if planted(Fault::ForgedTagBurnsPad) {
                    return self.burn_key(id, range, Refusal::BadTag);
                }
                self.release(range, Some(forged.blocks));
                return self.answer_key(id, Err(Refusal::BadTag));
            }
        };
        if let Err(refusal) = self.admit(from, &request)
            && !planted(Fault::ForwardsAgainstPolicy)
        {
            return self.burn_key(id, range, refusal);
        }
        let share = match &request.share {
            None => pad.into_bytes(),
            Some(ciphertext) => {
                let mut share = Wiped::new(ciphertext.0.clone());
                pad.apply(&mut share);
                share
            }
        };
        let share = SecretShare(share);
        match self.charge(now, &request) {
            Err(refusal) => self.burn_key(id, range, refusal),
            Ok((paid, spendings)) if spendings.is_empty() => self.mint_key(id, request, share, paid),
            Ok((paid, spendings)) => {
                let job = Job::SpendKey { id, request, share, paid, spendings: spendings.clone() };
                let ticket = self.begin(job);
                self.commit(ticket, Record { spendings, ..Record::default() });
            }
        }
    }

    /// Takes room in the outbox and pays for the pads of all receivers, or does neither. Nothing has been
    /// minted yet. Gives the accounts that were charged, and what of them has to be recorded.
    fn charge(&mut self, now: Time, request: &KeyRequest) -> Result<(Vec<Account>, Vec<Spending>), Refusal> {
        let agreement = &request.agreement;
        if !self.room.take(agreement.sender, &agreement.receivers, instruction_bytes(request)) {
            return Err(Refusal::OutboxFull);
        }
        let accounts =
            agreement.receivers.iter().flat_map(|&receiver| self.accounts(agreement.sender, receiver));
        let payments =
            accounts.map(|account| (account, self.quota_of(&account), agreement.burned_bytes(Lane::Down)));
        let payments: Vec<_> = payments.filter(|(_, quota, _)| quota.is_some()).collect();
        let paid = payments.iter().map(|(account, ..)| *account).collect();
        match self.budgets.pay(now, payments) {
            Ok(spendings) => Ok((paid, spendings)),
            Err(exceeded) => {
                self.give_back(request, &[]);
                self.record_spendings(exceeded.changed);
                Err(self.who_set(&exceeded.account))
            }
        }
    }

    /// The accounts that a sender's key for one receiver is charged to: the hub's own, and those of the receiver's limits.
    fn accounts(&self, sender: NodeId, receiver: NodeId) -> Vec<Account> {
        let payer = if planted(Fault::SendersShareAQuota) { receiver } else { sender };
        let mut accounts = vec![Account::Pair { sender: payer, receiver }];
        let set = self.limits.get(&receiver).filter(|_| !planted(Fault::LimitsNotApplied));
        if let Some(record) = set {
            accounts.push(Account::Limit { receiver, sender });
            if !record.limits.names(&sender) {
                accounts.push(Account::Unnamed { receiver });
            }
        }
        accounts
    }

    /// Whose limit an account has reached.
    fn who_set(&self, account: &Account) -> Refusal {
        match account {
            Account::Limit { .. } | Account::Unnamed { .. } => Refusal::ReceiverLimit,
            Account::Pair { sender, receiver } if self.quotas.named(sender, receiver).is_none() => {
                Refusal::DefaultQuota
            }
            _ => Refusal::QuotaExceeded,
        }
    }

    /// Gives back the room of a request whose messages were not put into the outbox, and what was paid for pads that were not
    /// minted.
    pub(super) fn give_back(&mut self, request: &KeyRequest, paid: &[Account]) {
        let (bytes, sender) = (instruction_bytes(request), request.agreement.sender);
        for receiver in &request.agreement.receivers {
            self.room.give_back(*receiver, sender, bytes);
        }
        for account in paid {
            self.budgets.refund(account, request.agreement.burned_bytes(Lane::Down));
        }
    }

    pub(super) fn mint_key(
        &mut self,
        id: RequestId,
        request: Verified<KeyRequest>,
        share: SecretShare,
        paid: Vec<Account>,
    ) {
        let bytes = request.agreement.burned_bytes(Lane::Down);
        let wants = request
            .agreement
            .receivers
            .iter()
            .map(|&peer| Want { peer, lane: Lane::Down, bytes, usage: Usage::Key })
            .collect();
        let ticket = self.begin(Job::MintKey { id, request, share, paid });
        self.effects.push_back(HubEffect::Pad(PadEffect::Mint { ticket, wants }));
    }

    /// Policy, after the tag: the message is genuine, but is it to be served?
    fn admit(&self, from: NodeId, request: &KeyRequest) -> Result<(), Refusal> {
        let agreement = &request.agreement;
        let enabled = |node: &NodeId| self.clients.get(node).is_some_and(|client| client.enabled);
        let position = agreement.position(&self.me).ok_or(Refusal::NotInRoster)?;
        if request.share.is_some() == agreement.takes_pad(position) {
            return Err(Refusal::NotInRoster);
        }
        if agreement.sender != from || !enabled(&agreement.sender) {
            return Err(Refusal::UnknownSender);
        }
        if !agreement.receivers.iter().all(enabled) {
            return Err(Refusal::UnknownReceiver);
        }
        if u64::from(agreement.key_bytes) > self.key_bytes_max {
            return Err(Refusal::TooLarge);
        }
        Ok(())
    }

    pub(super) fn key_minted(
        &mut self,
        id: RequestId,
        request: &Verified<KeyRequest>,
        share: &SecretShare,
        paid: &[Account],
        minted: Result<Vec<Minted>, MintRefusal>,
    ) {
        let minted = match minted {
            Ok(minted) => minted,
            Err(refusal) => {
                self.give_back(request, paid);
                let refusal = match refusal {
                    MintRefusal::Internal => Refusal::Internal,
                    MintRefusal::NotSynced { .. } => Refusal::ReceiverAway,
                    MintRefusal::Low { .. } => Refusal::PadLow,
                    MintRefusal::NoTable { .. } => Refusal::ReceiverTableInactive,
                };
                return self.burn_key(id, request.range, refusal);
            }
        };
        let receivers = &request.agreement.receivers;
        let mut outgoing = Vec::with_capacity(receivers.len());
        for ((at, &receiver), minted) in receivers.iter().enumerate().zip(minted) {
            let table = minted.range.table;
            let Some(bytes) = self.instruction(request, share, at, minted) else {
                self.give_back(request, &[]);
                return self.burn_key(id, request.range, Refusal::Internal);
            };
            debug_assert_eq!(bytes.len() as u64, instruction_bytes(request), "the room that was taken");
            let (block, sender) = (request.agreement.block(), request.agreement.sender);
            outgoing.push(Outgoing { receiver, sender, block, table, bytes });
        }
        if planted(Fault::AnsweredBeforeRecord) {
            self.answer_key(id, Ok(()));
        }
        let result = Ok(outgoing.len() as u64);
        let room = |message: &Outgoing| (message.receiver, message.sender, message.bytes.len() as u64);
        let room = outgoing.iter().map(room).collect();
        let record = Record { claims: vec![(request.range, Usage::Key)], outgoing, ..Record::default() };
        let ticket = self.begin(Job::CommitKey { id, result, room });
        self.commit(ticket, record);
    }

    /// The key instruction message for the receiver at a place of the list: its key tag, and its part of the share.
    /// `None` only if storage gave a run of a wrong length.
    fn instruction(
        &self,
        request: &KeyRequest,
        share: &SecretShare,
        at: usize,
        minted: Minted,
    ) -> Option<Vec<u8>> {
        let (pad, tag_key) = minted.pad.split()?;
        let mut ciphertext = share.part(request.agreement.receivers.len(), at, pad.len())?;
        if self.fault == HubFault::FalseShares {
            // Each hub lies in its own way: equal errors could cancel out in the exclusive-or.
            let pattern = self.me.as_bytes().iter().cycle();
            ciphertext.iter_mut().zip(pattern).for_each(|(byte, lie)| *byte ^= lie | 1);
        }
        pad.apply(&mut ciphertext);
        let instruction = KeyInstruction {
            range: minted.range,
            agreement: request.agreement.clone(),
            key_tag: *request.key_tags.get(at)?,
            share: Blob(ciphertext),
        };
        seal(&instruction, tag_key).ok()
    }

    fn burn_key(&mut self, id: RequestId, range: PadRange, refusal: Refusal) {
        self.counters.refused += 1;
        let ticket = self.begin(Job::CommitKey { id, result: Err(refusal), room: Vec::new() });
        self.commit(ticket, claims(range, Usage::Key));
    }

    pub(super) fn answer_key(&mut self, id: RequestId, result: Result<(), Refusal>) {
        self.let_out(id);
        self.count(result.err());
        self.effects.push_back(HubEffect::KeyAnswer { id, result });
    }
}

impl SecretShare {
    /// What of a share goes to the receiver at a place among so many, in a buffer of the expected length: the share of
    /// its own u, which no other receiver may learn, and that of the key. `None` where the lengths do not fit.
    fn part(&self, receivers: usize, at: usize, bytes: usize) -> Option<Vec<u8>> {
        let u_bytes = usize::try_from(U_BYTES).ok()?;
        let at = if planted(Fault::OneKeyTagKeyForAll) { 0 } else { at };
        let (us, key) = self.0.split_at_checked(receivers.checked_mul(u_bytes)?)?;
        let u = us.chunks_exact(u_bytes).nth(at)?;
        if u.len() + key.len() != bytes {
            return None;
        }
        // Of the right length at once: growing would leave copies behind.
        let mut part = Vec::with_capacity(bytes);
        part.extend_from_slice(u);
        part.extend_from_slice(key);
        Some(part)
    }
}

/// Length of the sealed instruction that a request leads to, the same for each receiver.
fn instruction_bytes(request: &KeyRequest) -> u64 {
    let agreement = &request.agreement;
    let ids = 32 * (agreement.receivers.len() as u64 + agreement.roster.len() as u64);
    let content = match agreement.content {
        Content::Keys(_) => 8,
        Content::Negotiation => 4,
        Content::Round { .. } => 28,
    };
    // Kind, run, agreement, key tag, length of the share, tag; see docs/PROTOCOL.md.
    let fixed = 1 + 36 + 79 + size_of::<KeyTag>() as u64 + 8 + TAG_BYTES as u64;
    fixed + content + ids + agreement.purpose.len() as u64 + agreement.share_bytes(Lane::Down)
}

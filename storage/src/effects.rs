//! What the state machines of `dske-protocol` ask for and are told, in the store's words. Pure translation: it
//! decides nothing, and serves the node and the simulation alike.

use dske_protocol::{
    effect::{BlockKey, EndedBlock, EstablishedIdentity, MintRefusal, Record, SecretKey, Usage, Want},
    quota::Spending,
    refusal::Refusal,
};

use crate::{
    error::{HoldRefusal, MarksRefusal, MintError},
    records::{BlockRecord, BlockState, BudgetRecord, ExclusionRecord, IdentityRecord, Side},
    secret::SecretBytes,
    status::{TableSide, Use},
    transaction::{self, NewBlock, OutboxId, OutboxItem, Transaction},
};

/// The transaction that makes a machine's record durable. `next_id` gives a fresh id for each message; `at_ms`
/// is the time since the epoch. Messages and blocks are new: who counts their age by another clock says so afterwards.
pub fn transaction(record: Record, mut next_id: impl FnMut() -> OutboxId, at_ms: u64) -> Transaction {
    let mut outbox_item = |message: dske_protocol::effect::Outgoing| OutboxItem {
        id: next_id(),
        receiver: message.receiver,
        sender: message.sender,
        block: message.block,
        table: message.table,
        at_ms,
        bytes: message.bytes,
    };
    let budget = |spending: Spending| BudgetRecord {
        account: spending.account,
        // Rounded up: never fuller than it was.
        full_at_ms: u64::try_from(spending.full_at.as_millis()).unwrap_or(u64::MAX).saturating_add(1),
        quota: spending.quota,
    };
    let exclusion = |(hub, reason)| ExclusionRecord { hub, reason, at_ms };
    Transaction {
        claims: record.claims.into_iter().map(|(range, of)| (range, usage(of))).collect(),
        outbox: record.outgoing.into_iter().map(&mut outbox_item).collect(),
        block: record.block.map(|ended| block(ended, at_ms)).into_iter().collect(),
        identities: record.identity.map(|established| identity(established, at_ms)).into_iter().collect(),
        exclusions: record.exclusions.into_iter().map(exclusion).collect(),
        sync: record.sync,
        budgets: record.spendings.into_iter().map(budget).collect(),
        limits: record.limits.into_iter().collect(),
        ..Transaction::default()
    }
}

fn block(ended: EndedBlock, at_ms: u64) -> NewBlock {
    let EndedBlock { agreement, sent, result } = ended;
    let (n, k, key_bytes) = (agreement.n(), agreement.k, agreement.bytes_of_each_key());
    let round = agreement.is_round();
    let (state, key) = match result {
        Ok(BlockKey::Keep(SecretKey(mut key))) => {
            (BlockState::Ready, Some(SecretBytes::new(std::mem::take(&mut *key))))
        }
        Ok(BlockKey::Taken) => (BlockState::Taken, None),
        Err(reason) => (BlockState::Aborted { reason: reason.to_string() }, None),
    };
    let record = BlockRecord {
        block: agreement.block(),
        side: if sent { Side::Sender } else { Side::Receiver },
        sender: agreement.sender,
        receivers: agreement.receivers,
        purpose: agreement.purpose,
        key_bytes,
        n,
        k,
        state,
        at_ms,
        aged_ms: at_ms,
        round,
    };
    NewBlock { record, key }
}

fn identity(established: EstablishedIdentity, at_ms: u64) -> IdentityRecord {
    IdentityRecord {
        node: established.identity.node,
        name: established.identity.name,
        applications: established.identity.applications,
        known_as: established.known_as,
        established_ms: at_ms,
    }
}

/// A machine's wish for a run.
pub fn want(want: &Want) -> transaction::Want {
    let side = TableSide::that_allocates(want.lane);
    transaction::Want { peer: want.peer, side, bytes: want.bytes, usage: usage(want.usage) }
}

fn usage(usage: Usage) -> Use {
    match usage {
        Usage::Key => Use::Key,
        Usage::Identity => Use::Identity,
        Usage::Sync => Use::Sync,
    }
}

/// What the author of a message is told when its run cannot be held. A failure of the store is logged.
pub fn hold_refusal(refusal: HoldRefusal) -> Refusal {
    match refusal {
        HoldRefusal::UnknownTable(_) | HoldRefusal::WrongPeer { .. } => Refusal::UnknownTable,
        HoldRefusal::Pending => Refusal::TablePending,
        HoldRefusal::NotActive { .. } => Refusal::TableInactive,
        HoldRefusal::NotSynced => Refusal::NotSynced,
        HoldRefusal::WrongLane | HoldRefusal::OutOfRange => Refusal::OutOfRange,
        HoldRefusal::AlreadyUsed | HoldRefusal::Erased => Refusal::PadUsed,
        HoldRefusal::Held => Refusal::Busy,
        HoldRefusal::Store(error) => {
            tracing::error!(%error, "a pad could not be read");
            Refusal::Internal
        }
    }
}

/// What the author of a hello or mark is told about a table that has no marks. A failure of the store is logged.
pub fn marks_refusal(refusal: MarksRefusal) -> Refusal {
    match refusal {
        MarksRefusal::UnknownTable => Refusal::UnknownTable,
        MarksRefusal::Pending => Refusal::TablePending,
        MarksRefusal::NotActive { .. } => Refusal::TableInactive,
        MarksRefusal::Store(error) => {
            tracing::error!(%error, "marks could not be told");
            Refusal::Internal
        }
    }
}

/// Why a machine gets no fresh run. A failure of the store is logged.
pub fn mint_refusal(error: MintError) -> MintRefusal {
    match error {
        MintError::NoTable { peer, .. } => MintRefusal::NoTable { peer },
        MintError::NotSynced { peer } => MintRefusal::NotSynced { peer },
        MintError::Exhausted { peer, wanted, left } => MintRefusal::Low { peer, left, needed: wanted },
        // The peer named the place: that is its doing, not a fault here.
        MintError::PlaceUsed => MintRefusal::Internal,
        MintError::BadLength { .. } | MintError::Store(_) => {
            tracing::error!(%error, "no pad could be taken");
            MintRefusal::Internal
        }
    }
}

//! Executes what the state machines ask of pads and ledger, and brings the answers back.
//!
//! This is the only bridge between `dske-protocol` and `dske-storage`; it decides nothing.

use dske_protocol::{
    effect::{
        BlockKey, EndedBlock, MintRefusal, Minted, PadEffect, PadOutcome, Record, SecretKey, Ticket, Usage,
        Want,
    },
    ids::{BlockId, NodeId, PadRange},
    refusal::Refusal,
};
use dske_storage::{
    BlockRecord, BlockState, ExclusionRecord, HoldRefusal, IdentityRecord, MintError, NewBlock, OutboxId,
    OutboxItem, SecretBytes, Side, Store, Transaction, Use,
};
use std::collections::VecDeque;

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

use crate::clock::now_ms;

/// An answer, and for commits the outbox entries that became durable with it.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) outcome: PadOutcome,
    pub(crate) outgoing: Vec<Queued>,
}

/// A message that stands in the outbox.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) id: OutboxId,
    pub(crate) receiver: NodeId,
    pub(crate) bytes: Vec<u8>,
}

/// The effects of one actor that are under way.
pub(crate) struct Pads {
    store: Store,
    pending: FuturesUnordered<BoxFuture<'static, Vec<Done>>>,
    ready: VecDeque<Done>,
}

impl Pads {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, pending: FuturesUnordered::new(), ready: VecDeque::new() }
    }

    /// Starts the effects that a machine has put out since the last call. Runs to be held are asked for
    /// together.
    pub(crate) fn execute(&mut self, effects: Vec<PadEffect>) {
        let mut holds = Vec::new();
        for effect in effects {
            match effect {
                PadEffect::Hold { ticket, from, range, block } => holds.push((ticket, from, range, block)),
                PadEffect::Release { range, forged_blocks } => self.store.release(range, forged_blocks),
                PadEffect::Mint { ticket, wants } => self.mint(ticket, &wants),
                PadEffect::Commit { ticket, record } => self.commit(ticket, *record),
            }
        }
        if !holds.is_empty() {
            self.hold(holds);
        }
    }

    /// The next answer. Never ends; waits while nothing is under way.
    pub(crate) async fn next(&mut self) -> Done {
        loop {
            if let Some(done) = self.ready.pop_front() {
                return done;
            }
            match self.pending.next().await {
                Some(done) => self.ready.extend(done),
                None => std::future::pending().await,
            }
        }
    }

    fn hold(&mut self, holds: Vec<(Ticket, NodeId, PadRange, Option<BlockId>)>) {
        let reply = self.store.hold(holds.iter().map(|&(_, from, range, _)| (from, range)).collect());
        let store = self.store.clone();
        let answers = async move {
            let mut results = reply.await.unwrap_or_default().into_iter();
            let mut done = Vec::with_capacity(holds.len());
            for (ticket, _, range, block) in holds {
                let mut result = results.next().map_or(Err(Refusal::Internal), |held| held.map_err(refusal));
                let ended = block.map_or(Ok(false), |block| store.block(&block).map(|known| known.is_some()));
                let unsure = ended.is_err();
                let block_ended = ended.unwrap_or(true);
                if unsure && result.is_ok() {
                    // Without the ledger nobody knows whether the block id has been used.
                    store.release(range, None);
                    result = Err(Refusal::Internal);
                }
                let outcome = PadOutcome::Held { ticket, result, block_ended };
                done.push(Done { outcome, outgoing: Vec::new() });
            }
            done
        };
        self.pending.push(Box::pin(answers));
    }

    fn mint(&mut self, ticket: Ticket, wants: &[Want]) {
        let wants: Vec<_> = wants
            .iter()
            .map(|want| dske_storage::Want { peer: want.peer, bytes: want.bytes, usage: usage(want.usage) })
            .collect();
        let reply = self.store.mint(wants);
        self.pending.push(Box::pin(async move {
            let result = match reply.await {
                Ok(Ok(runs)) => {
                    Ok(runs.into_iter().map(|run| Minted { range: run.range, pad: run.pad }).collect())
                }
                Ok(Err(error)) => Err(mint_refusal(error)),
                Err(_) => Err(MintRefusal::Internal),
            };
            vec![Done { outcome: PadOutcome::Minted { ticket, result }, outgoing: Vec::new() }]
        }));
    }

    fn commit(&mut self, ticket: Ticket, record: Record) {
        let mut transaction = Transaction {
            claims: record.claims.into_iter().map(|(range, of)| (range, usage(of))).collect(),
            ..Transaction::default()
        };
        let mut outgoing = Vec::with_capacity(record.outgoing.len());
        for message in record.outgoing {
            let id = self.store.next_outbox_id();
            let item = OutboxItem {
                id,
                receiver: message.receiver,
                block: message.block,
                bytes: message.bytes.clone(),
            };
            transaction.outbox.push(item);
            outgoing.push(Queued { id, receiver: message.receiver, bytes: message.bytes });
        }
        transaction.block.extend(record.block.map(block_record));
        transaction.identities.extend(record.identity.map(|established| IdentityRecord {
            node: established.identity.node,
            name: established.identity.name,
            applications: established.identity.applications,
            known_as: established.known_as,
            established_ms: now_ms(),
        }));
        let exclusion = |(hub, reason)| ExclusionRecord { hub, reason, at_ms: now_ms() };
        transaction.exclusions.extend(record.exclusions.into_iter().map(exclusion));
        let reply = self.store.commit(transaction);
        self.pending.push(Box::pin(async move {
            let result = reply.await;
            let ok = matches!(result, Ok(Ok(())));
            if let Ok(Err(error)) = result {
                tracing::error!(%error, "a record could not be made durable");
            }
            let outgoing = if ok { outgoing } else { Vec::new() };
            vec![Done { outcome: PadOutcome::Committed { ticket, ok }, outgoing }]
        }));
    }
}

fn block_record(ended: EndedBlock) -> NewBlock {
    let EndedBlock { agreement, sent, result } = ended;
    let (n, k) = (agreement.n(), agreement.k);
    let (state, key) = match result {
        Ok(BlockKey::Keep(SecretKey(mut key))) => {
            (BlockState::Ready, Some(SecretBytes::new(std::mem::take(&mut *key))))
        }
        Ok(BlockKey::Taken) => (BlockState::Taken, None),
        Err(reason) => (BlockState::Aborted { reason: reason.to_string() }, None),
    };
    let record = BlockRecord {
        block: agreement.block,
        side: if sent { Side::Sender } else { Side::Receiver },
        sender: agreement.sender,
        receivers: agreement.receivers,
        purpose: agreement.purpose,
        key_bytes: agreement.key_bytes,
        n,
        k,
        state,
        at_ms: now_ms(),
    };
    NewBlock { record, key }
}

fn usage(usage: Usage) -> Use {
    match usage {
        Usage::Key => Use::Key,
        Usage::Identity => Use::Identity,
    }
}

fn refusal(refusal: HoldRefusal) -> Refusal {
    match refusal {
        HoldRefusal::UnknownTable(_) | HoldRefusal::WrongPeer { .. } => Refusal::UnknownTable,
        HoldRefusal::Pending => Refusal::TablePending,
        HoldRefusal::NotActive { .. } => Refusal::TableInactive,
        HoldRefusal::WrongLane | HoldRefusal::OutOfRange => Refusal::OutOfRange,
        HoldRefusal::AlreadyUsed | HoldRefusal::Erased => Refusal::PadUsed,
        HoldRefusal::Held => Refusal::Busy,
        HoldRefusal::Store(error) => {
            tracing::error!(%error, "a pad could not be read");
            Refusal::Internal
        }
    }
}

fn mint_refusal(error: MintError) -> MintRefusal {
    match error {
        MintError::NoTable { peer } => MintRefusal::NoTable { peer },
        MintError::Exhausted { peer, wanted, left } => MintRefusal::Low { peer, left, needed: wanted },
        MintError::BadLength { .. } | MintError::PlaceUsed | MintError::Store(_) => {
            tracing::error!(%error, "no pad could be taken");
            MintRefusal::Internal
        }
    }
}

//! Executes what the state machines ask of pads and ledger, and brings the answers back.
//!
//! It decides nothing; what an effect means to the store stands in [`dske_storage::effects`].

use std::collections::VecDeque;

use dske_protocol::{
    effect::{MintRefusal, Minted, PadEffect, PadOutcome, Record, Ticket, Want},
    ids::BlockId,
    post::Letter,
    refusal::Refusal,
};
use dske_storage::{HoldWant, OutboxId, OutboxItem, Store, TableSide, effects};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

use crate::clock::{Clock, now_ms};

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
    pub(crate) letter: Letter,
    pub(crate) bytes: Vec<u8>,
}

/// The effects of one actor that are under way.
pub(crate) struct Pads {
    store: Store,
    clock: Clock,
    pending: FuturesUnordered<BoxFuture<'static, Vec<Done>>>,
    ready: VecDeque<Done>,
}

impl Pads {
    pub(crate) fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock, pending: FuturesUnordered::new(), ready: VecDeque::new() }
    }

    /// Starts the effects that a machine has put out since the last call. Runs to be held are asked for
    /// together.
    pub(crate) fn execute(&mut self, effects: Vec<PadEffect>) {
        let mut holds = Vec::new();
        for effect in effects {
            match effect {
                PadEffect::Hold { ticket, from, range, block, for_sync } => {
                    holds.push((ticket, HoldWant { peer: from, range, for_sync }, block));
                }
                PadEffect::Release { range, forged_blocks } => self.store.release(range, forged_blocks),
                PadEffect::Mint { ticket, wants } => self.mint(ticket, &wants),
                PadEffect::Commit { ticket, record } => self.commit(ticket, *record),
                PadEffect::Marks { ticket, peer, own, table, reserve } => {
                    let side = TableSide::that_allocates(own);
                    let reply = self.store.marks(peer, side, table, reserve);
                    self.answer(async move {
                        let result = reply
                            .await
                            .map_or(Err(Refusal::Internal), |marks| marks.map_err(effects::marks_refusal));
                        PadOutcome::Marks { ticket, result }
                    });
                }
                PadEffect::MintSync { ticket, table, at } => {
                    let reply = self.store.mint_sync(table, at);
                    self.answer(async move {
                        let result = match reply.await {
                            Ok(Ok(run)) => Ok(vec![Minted { range: run.range, pad: run.pad }]),
                            Ok(Err(error)) => Err(effects::mint_refusal(error)),
                            Err(_) => Err(MintRefusal::Internal),
                        };
                        PadOutcome::Minted { ticket, result }
                    });
                }
                PadEffect::Skip { ticket, table, to } => {
                    let reply = self.store.skip(table, to);
                    self.answer(async move {
                        let ok = matches!(reply.await, Ok(Ok(())));
                        PadOutcome::Skipped { ticket, ok }
                    });
                }
                PadEffect::Open(table) => self.store.open_table(&table),
                PadEffect::Close { peer, own } => {
                    self.store.close_tables(peer, TableSide::that_allocates(own));
                }
                PadEffect::Shut(table) => self.store.shut_table(&table),
                PadEffect::Leave(table) => self.store.leave_table(&table),
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

    fn answer(&mut self, outcome: impl Future<Output = PadOutcome> + Send + 'static) {
        self.pending
            .push(Box::pin(async move { vec![Done { outcome: outcome.await, outgoing: Vec::new() }] }));
    }

    fn hold(&mut self, holds: Vec<(Ticket, HoldWant, Option<BlockId>)>) {
        let reply = self.store.hold(holds.iter().map(|&(_, want, _)| want).collect());
        let store = self.store.clone();
        let answers = async move {
            let mut results = reply.await.unwrap_or_default().into_iter();
            let mut done = Vec::with_capacity(holds.len());
            for (ticket, HoldWant { range, .. }, block) in holds {
                let mut result =
                    results.next().map_or(Err(Refusal::Internal), |held| held.map_err(effects::hold_refusal));
                let ended = block.map_or(Ok(false), |block| store.is_block_known(&block));
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
        let reply = self.store.mint(wants.iter().map(effects::want).collect());
        self.pending.push(Box::pin(async move {
            let result = match reply.await {
                Ok(Ok(runs)) => {
                    Ok(runs.into_iter().map(|run| Minted { range: run.range, pad: run.pad }).collect())
                }
                Ok(Err(error)) => Err(effects::mint_refusal(error)),
                Err(_) => Err(MintRefusal::Internal),
            };
            vec![Done { outcome: PadOutcome::Minted { ticket, result }, outgoing: Vec::new() }]
        }));
    }

    fn commit(&mut self, ticket: Ticket, record: Record) {
        let mut transaction = effects::transaction(record, || self.store.next_outbox_id(), now_ms());
        transaction.outbox.iter_mut().for_each(|item| item.at_ms = self.clock.age_ms());
        transaction.block.iter_mut().for_each(|new| new.record.aged_ms = self.clock.age_ms());
        let queued = |item: &OutboxItem| Queued {
            id: item.id,
            letter: Letter {
                receiver: item.receiver,
                sender: item.sender,
                table: item.table,
                bytes: item.bytes.len() as u64,
                at_ms: item.at_ms,
            },
            bytes: item.bytes.clone(),
        };
        let outgoing: Vec<_> = transaction.outbox.iter().map(queued).collect();
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

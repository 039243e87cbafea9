//! What every simulated process has: its store with the queues of the store's threads, its exchanges with
//! peers, its clock.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use dske_protocol::{
    effect::{MintRefusal, Minted, PadEffect, PadOutcome, Ticket, Want},
    identity::InquiryId,
    ids::{BlockId, KeyId, Lane, NodeId, TableId},
    post::Letter,
    refusal::Refusal,
};
use dske_storage::{
    HoldWant, OutboxId, SecretBytes, TableSide, TakeError, Transaction, effects,
    simulation::{Keep, SimAnswer, SimJob, SimSizes, SimStore},
};

use crate::{
    checker::{Invariant, Pending},
    lies,
    packet::{Packet, Wire},
    rng::digest,
    shared::{EXCHANGE_TIMEOUT, Event, MILLI, Micros, SECOND, Shared},
};

/// One in so many records is followed by a look at what a power cut would leave.
const SHADOW_ONE_IN: u64 = 48;

/// Between a use and its erasure.
const ERASE_DELAY: Micros = 200 * MILLI;
/// Between a record and the checkpoint of the journal.
const SETTLE_DELAY: Micros = SECOND;

/// The machine that an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machine {
    Hub,
    Sender,
    Receiver,
    Desk,
    /// What tells hubs of limits.
    Limits,
    /// The one that compares the tables in which this lane is ours.
    Sync(Lane),
}

impl Machine {
    /// Whether it is the hub's part of a process.
    pub(crate) fn is_of_hub(self) -> bool {
        matches!(self, Self::Hub | Self::Sync(Lane::Down))
    }
}

/// Work for the thread that reads and reserves.
#[derive(Debug)]
enum PadTask {
    Hold { machine: Machine, ticket: Ticket, want: HoldWant, block: Option<BlockId> },
    Mint { machine: Machine, ticket: Ticket, wants: Vec<Want> },
    Marks { machine: Machine, ticket: Ticket, peer: NodeId, side: TableSide, table: TableId, reserve: bool },
    MintSync { machine: Machine, ticket: Ticket, table: TableId, at: u64 },
    Skip { machine: Machine, ticket: Ticket, table: TableId, to: u64 },
    Read(OutboxId),
    Refill(TableId),
}

/// Work for the thread that commits.
#[derive(Debug)]
enum CommitTask {
    Record { machine: Machine, ticket: Ticket, transaction: Box<Transaction>, pending: Pending },
    Plain(Box<Transaction>),
    Take(KeyId),
}

/// What waits for the answer of a group.
enum Waiting {
    Record {
        machine: Machine,
        ticket: Ticket,
        pending: Pending,
        outgoing: Vec<Queued>,
    },
    Plain,
    /// And whether the key was on record when it was asked for.
    Take(KeyId, bool),
}

/// A message that stands in the outbox.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) id: OutboxId,
    pub(crate) letter: Letter,
    pub(crate) bytes: Vec<u8>,
}

/// What the store's threads bring back.
#[derive(Debug)]
pub(crate) enum Done {
    Pad(Machine, PadOutcome),
    /// How an agreement ended is on record; its machine learns of it next.
    Ended(BlockId),
    Queued(Vec<Queued>),
    Read(OutboxId, Option<Vec<u8>>),
    /// And whether the key was on record when it was asked for.
    Taken(KeyId, bool, Result<SecretBytes, TakeError>),
}

/// An exchange that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange {
    pub(crate) to: usize,
    pub(crate) about: About,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum About {
    Key(BlockId),
    Identity(InquiryId),
    Limits,
    Instruction(OutboxId),
    Hello,
    SyncHello(TableId),
    /// A mark of ours, and our lane of the table.
    Mark(TableId, Lane),
}

/// See the head of the file.
pub(crate) struct Core {
    pub(crate) me: usize,
    pub(crate) epoch: u32,
    pub(crate) honest: bool,
    pub(crate) store: SimStore,
    identity: [u8; 16],
    sizes: SimSizes,
    /// A failing device takes the process with it.
    pub(crate) dies_with_device: bool,
    pub(crate) dead: bool,
    pub(crate) clock_ahead: Micros,
    pads: VecDeque<PadTask>,
    pads_due: bool,
    commits: Vec<CommitTask>,
    commits_due: bool,
    erase_due: bool,
    settle_due: bool,
    pub(crate) timer: Option<Micros>,
    pub(crate) exchanges: BTreeMap<Wire, Exchange>,
    /// Digests of messages that a liar sends late.
    late: Vec<u64>,
}

impl Core {
    pub(crate) fn new(
        me: usize,
        epoch: u32,
        honest: bool,
        store: SimStore,
        identity: [u8; 16],
        sizes: SimSizes,
    ) -> Self {
        Self {
            me,
            epoch,
            honest,
            store,
            identity,
            sizes,
            dies_with_device: true,
            dead: false,
            clock_ahead: 0,
            pads: VecDeque::new(),
            pads_due: false,
            commits: Vec::new(),
            commits_due: false,
            erase_due: false,
            settle_due: false,
            timer: None,
            exchanges: BTreeMap::new(),
            late: Vec::new(),
        }
    }

    /// The time that this node's machines see.
    pub(crate) fn now(&self, shared: &Shared) -> Duration {
        Duration::from_micros(shared.now + self.clock_ahead)
    }

    /// Nothing is waiting for the store's threads.
    pub(crate) fn is_idle(&self) -> bool {
        self.pads.is_empty() && self.commits.is_empty()
    }

    /// Notices that the device has failed.
    fn device_failed(&mut self) -> bool {
        if self.dies_with_device && self.store.device().is_cut() {
            self.dead = true;
        }
        self.dead
    }

    // -- network

    /// Sends a packet, unless the process is no more. What it says is checked first.
    pub(crate) fn send(&mut self, shared: &mut Shared, to: usize, packet: Packet) {
        if self.dead {
            return;
        }
        let mut extra = 0;
        if let Some(sealed) = packet.sealed() {
            shared.checker.leaves(self.me, self.honest, sealed, &self.store);
            if self.late.contains(&digest(sealed)) {
                extra = shared.plan.deadline + SECOND;
            }
            match &packet {
                Packet::Instruction(..) if self.honest => {
                    extra = shared.honest_late();
                    shared.checker.forwards(self.me, to, sealed, &self.store);
                }
                Packet::Key(..) if self.honest => {
                    shared.checker.shared(to, sealed);
                }
                _ => {}
            }
        }
        shared.send(self.me, to, packet, extra);
    }

    /// Sends a request and awaits its answer.
    pub(crate) fn ask(
        &mut self,
        shared: &mut Shared,
        to: usize,
        about: About,
        packet: impl FnOnce(Wire) -> Packet,
    ) -> Wire {
        let wire = shared.wire();
        self.exchanges.insert(wire, Exchange { to, about });
        self.send(shared, to, packet(wire));
        // Where there is no connection it fails at once.
        let patience = if shared.is_up(self.me, to) { EXCHANGE_TIMEOUT } else { MILLI };
        shared.after(patience, Event::ExchangeOver(self.me, self.epoch, wire));
        wire
    }

    /// Ends an exchange with its answer; gives what it was about, where the answer is from whom was asked.
    pub(crate) fn close_exchange(&mut self, from: usize, wire: Wire) -> Option<About> {
        let exchange = self.exchanges.get(&wire).copied().filter(|exchange| exchange.to == from)?;
        self.exchanges.remove(&wire);
        Some(exchange.about)
    }

    // -- store

    /// Starts what a machine wants done.
    pub(crate) fn effect(&mut self, shared: &mut Shared, machine: Machine, effect: PadEffect) {
        match effect {
            PadEffect::Hold { ticket, from, range, block, for_sync } => {
                let want = HoldWant { peer: from, range, for_sync };
                self.pads.push_back(PadTask::Hold { machine, ticket, want, block });
            }
            PadEffect::Marks { ticket, peer, own, table, reserve } => {
                let side = TableSide::that_allocates(own);
                self.pads.push_back(PadTask::Marks { machine, ticket, peer, side, table, reserve });
            }
            PadEffect::MintSync { ticket, table, at } => {
                self.pads.push_back(PadTask::MintSync { machine, ticket, table, at });
            }
            PadEffect::Skip { ticket, table, to } => {
                self.pads.push_back(PadTask::Skip { machine, ticket, table, to });
            }
            PadEffect::Open(table) => self.store.open_table(&table),
            PadEffect::Close { peer, own } => {
                self.store.close_tables(peer, TableSide::that_allocates(own));
            }
            PadEffect::Shut(table) => self.store.shut_table(&table),
            PadEffect::Leave(table) => {
                shared.count("tables left");
                self.store.leave_table(&table);
            }
            PadEffect::Release { range, forged_blocks } => self.store.release(range, forged_blocks),
            PadEffect::Mint { ticket, wants } => {
                self.pads.push_back(PadTask::Mint { machine, ticket, wants });
            }
            PadEffect::Commit { ticket, mut record } => {
                if self.honest {
                    shared.checker.claims(self.me, &record);
                } else if machine == Machine::Hub {
                    lies::hub_record(shared, self.me, &self.store, &mut record, &mut self.late);
                }
                let pending = Pending::of(&record);
                let at_ms = self.now(shared).as_millis() as u64;
                let transaction = effects::transaction(*record, || self.store.next_outbox_id(), at_ms);
                let transaction = Box::new(transaction);
                self.commits.push(CommitTask::Record { machine, ticket, transaction, pending });
            }
        }
        self.schedule(shared);
    }

    pub(crate) fn read_outbox(&mut self, shared: &mut Shared, id: OutboxId) {
        self.pads.push_back(PadTask::Read(id));
        self.schedule(shared);
    }

    pub(crate) fn strike(&mut self, shared: &mut Shared, delivered: Vec<OutboxId>) {
        let outbox = &mut shared.checker.facts[self.me].outbox;
        outbox.retain(|id, _| !delivered.contains(id));
        let transaction = Transaction { delivered, ..Transaction::default() };
        self.commits.push(CommitTask::Plain(Box::new(transaction)));
        self.schedule(shared);
    }

    pub(crate) fn take(&mut self, shared: &mut Shared, key: KeyId) {
        shared.checker.facts[self.me].asked_for.insert(key.block);
        self.commits.push(CommitTask::Take(key));
        self.schedule(shared);
    }

    fn schedule(&mut self, shared: &mut Shared) {
        if !self.pads.is_empty() && !self.pads_due {
            self.pads_due = true;
            let delay = shared.rng.within(50..=400);
            shared.after(delay, Event::Pads(self.me, self.epoch));
        }
        if !self.commits.is_empty() && !self.commits_due {
            self.commits_due = true;
            let delay = shared.rng.within(100..=1500);
            shared.after(delay, Event::Commits(self.me, self.epoch));
        }
        if !self.erase_due {
            self.erase_due = true;
            shared.after(ERASE_DELAY, Event::Erase(self.me, self.epoch));
        }
    }

    /// The thread that reads and reserves does one thing.
    pub(crate) fn next_pad(&mut self, shared: &mut Shared) -> Option<Done> {
        let task = self.pads.pop_front()?;
        let done = match task {
            PadTask::Hold { machine, ticket, want, block } => {
                let held = self.store.hold(&[want]).pop();
                let mut result =
                    held.map_or(Err(Refusal::Internal), |held| held.map_err(effects::hold_refusal));
                let ended = block.map_or(Ok(false), |block| self.store.is_block_known(&block));
                if ended.is_err() && result.is_ok() {
                    self.store.release(want.range, None);
                    result = Err(Refusal::Internal);
                }
                let block_ended = ended.unwrap_or(true);
                Some(Done::Pad(machine, PadOutcome::Held { ticket, result, block_ended }))
            }
            PadTask::Marks { machine, ticket, peer, side, table, reserve } => {
                let mut result = self.store.marks(peer, side, table, reserve).map_err(effects::marks_refusal);
                if let Ok(marks) = &mut result {
                    lies::marks(shared, self.me, marks);
                }
                Some(Done::Pad(machine, PadOutcome::Marks { ticket, result }))
            }
            PadTask::MintSync { machine, ticket, table, at } => {
                shared.checker.takes_key(self.me, table);
                let minted = self.store.mint_sync(table, at);
                let result = minted.map(|run| vec![Minted { range: run.range, pad: run.pad }]);
                let result = result.map_err(effects::mint_refusal);
                Some(Done::Pad(machine, PadOutcome::Minted { ticket, result }))
            }
            PadTask::Skip { machine, ticket, table, to } => {
                let ok = self.store.skip(table, to).is_ok();
                Some(Done::Pad(machine, PadOutcome::Skipped { ticket, ok }))
            }
            PadTask::Mint { machine, ticket, wants } => {
                let low = machine == Machine::Hub
                    && lies::draw(shared, self.me, |lie| lie == lies::Lie::ClaimedLow).is_some();
                let result = match wants.first() {
                    Some(want) if low => {
                        Err(MintRefusal::Low { peer: want.peer, left: 0, needed: want.bytes })
                    }
                    _ => self.mint(shared, &wants),
                };
                Some(Done::Pad(machine, PadOutcome::Minted { ticket, result }))
            }
            PadTask::Read(id) => match self.store.outbox_read(id) {
                Ok(bytes) => {
                    let facts = &shared.checker.facts[self.me];
                    if bytes.is_none() && !facts.partly_old && facts.outbox.contains_key(&id) {
                        let text = format!("node {} lost the message {id:?} of its outbox", self.me);
                        shared.checker.fail(Invariant::NothingLost, text);
                    }
                    Some(Done::Read(id, bytes))
                }
                Err(_) => Some(Done::Read(id, None)),
            },
            PadTask::Refill(table) => {
                let _ = self.store.refill(table);
                None
            }
        };
        if self.device_failed() { None } else { done }
    }

    fn mint(&mut self, shared: &mut Shared, wants: &[Want]) -> Result<Vec<Minted>, MintRefusal> {
        let wanted: Vec<_> = wants.iter().map(effects::want).collect();
        match self.store.mint(&wanted) {
            Ok(minted) => {
                if let Some(first) = minted.first()
                    && shared.rng.chance(0.2)
                {
                    self.pads.push_back(PadTask::Refill(first.range.table));
                }
                Ok(minted.into_iter().map(|run| Minted { range: run.range, pad: run.pad }).collect())
            }
            Err(error) => {
                shared.count("pads used up or out of reach");
                Err(effects::mint_refusal(error))
            }
        }
    }

    /// How many things the reading thread does before others get their turn.
    pub(crate) fn begin_pads(&mut self, shared: &mut Shared) -> u64 {
        self.pads_due = false;
        shared.rng.within(1..=self.pads.len() as u64)
    }

    pub(crate) fn end(&mut self, shared: &mut Shared) {
        if !self.dead {
            self.schedule(shared);
        }
    }

    /// The committing thread does all that waits, as one group.
    pub(crate) fn commit(&mut self, shared: &mut Shared) -> Vec<Done> {
        self.commits_due = false;
        let (mut jobs, mut waiting) = (Vec::new(), Vec::new());
        for task in std::mem::take(&mut self.commits) {
            match task {
                CommitTask::Record { machine, ticket, transaction, pending } => {
                    let outgoing = transaction.outbox.iter().map(|item| Queued {
                        id: item.id,
                        letter: Letter {
                            receiver: item.receiver,
                            sender: item.sender,
                            table: item.table,
                            bytes: item.bytes.len() as u64,
                            at_ms: item.at_ms,
                        },
                        bytes: item.bytes.clone(),
                    });
                    let outgoing = outgoing.collect();
                    jobs.push(SimJob::Commit(transaction));
                    waiting.push(Waiting::Record { machine, ticket, pending, outgoing });
                }
                CommitTask::Plain(transaction) => {
                    jobs.push(SimJob::Commit(transaction));
                    waiting.push(Waiting::Plain);
                }
                CommitTask::Take(id) => {
                    // What the same group records after it is asked for may be unknown to it.
                    let known = shared.checker.facts[self.me].blocks.get(&id.block);
                    let kept = known.is_some_and(|fact| fact.key.is_some());
                    jobs.push(SimJob::Take(id));
                    waiting.push(Waiting::Take(id, kept));
                }
            }
        }
        let answers = self.store.commit_group(jobs);
        if self.device_failed() {
            return Vec::new();
        }
        let mut done = Vec::new();
        let now = self.now(shared);
        for (waiting, answer) in waiting.into_iter().zip(answers) {
            match (waiting, answer) {
                (Waiting::Record { machine, ticket, pending, outgoing }, SimAnswer::Commit(result)) => {
                    let ok = result.is_ok();
                    if ok {
                        for message in &outgoing {
                            shared.checker.queued(self.me, message.id, &message.bytes);
                        }
                        done.extend(pending.block().map(Done::Ended));
                        shared.checker.acknowledged(self.me, now, pending);
                        done.push(Done::Queued(outgoing));
                    } else {
                        shared.count("records refused");
                    }
                    done.push(Done::Pad(machine, PadOutcome::Committed { ticket, ok }));
                }
                (Waiting::Take(id, kept), SimAnswer::Take(result)) => {
                    done.push(Done::Taken(id, kept, result))
                }
                _ => {}
            }
        }
        if self.store.poison_cause().is_none() {
            if shared.rng.below(SHADOW_ONE_IN) == 0 {
                self.shadow(shared);
            }
            if !self.settle_due && shared.rng.chance(0.2) {
                self.settle_due = true;
                shared.after(SETTLE_DELAY, Event::Settle(self.me, self.epoch));
            }
        }
        done
    }

    /// Were the power cut now, would all that was said still be known?
    pub(crate) fn shadow(&self, shared: &mut Shared) {
        let device = self.store.device().after_power_cut(Keep::Nothing);
        match SimStore::load(&device, self.identity, self.sizes) {
            Ok(store) => shared.checker.remembers(self.me, &store, "were its power cut now"),
            Err(error) => {
                let text = format!("node {} would not start after a power cut now: {error}", self.me);
                shared.checker.fail(Invariant::NothingLost, text);
            }
        }
    }

    pub(crate) fn erase(&mut self) {
        self.erase_due = false;
        let _ = self.store.erase_due();
        self.device_failed();
    }

    pub(crate) fn settle(&mut self) {
        self.settle_due = false;
        let _ = self.store.settle();
        self.device_failed();
    }
}

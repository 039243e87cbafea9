//! Executes what the client's state machines put out.

use std::sync::{Arc, atomic::Ordering};

use dske_protocol::{
    ReconstructJob, Reconstructed,
    codec::Blob,
    identity::{IdentityEffect, IdentityInput},
    ids::{BlockId, NodeId, TableId},
    limits::LimitsInput,
    message::{Notice, NoticeOutcome, Subject},
    params::Time,
    receiver::{ReceiverEffect, ReceiverInput},
    sender::{SenderEffect, SenderInput},
    sync::Found,
};
use getrandom::SysRng;
use rand_core::UnwrapErr;

use super::{ClientActor, Names, sessions::Beginning};
use crate::{
    metrics::Side,
    network::{Command, LinkMessage, Question},
    status::{Level, ShareState, Step},
    sync::{SyncNews, findings, voices},
};

impl ClientActor {
    /// Executes what the machines have put out, until they are silent.
    pub(super) fn execute(&mut self) {
        loop {
            let mut busy = false;
            busy |= self.execute_sender();
            busy |= self.execute_receiver();
            busy |= self.execute_desk();
            busy |= self.execute_limits();
            busy |= self.execute_sync();
            if !busy {
                return;
            }
        }
    }

    pub(super) fn execute_sender(&mut self) -> bool {
        let (now, mut pad_effects, mut busy) = (self.clock.now(), Vec::new(), false);
        while let Some(effect) = self.sender.poll_effect() {
            busy = true;
            match effect {
                SenderEffect::Pad(effect) => pad_effects.push(effect),
                SenderEffect::Send { block, hub, bytes } => {
                    self.sessions.share(now, &block, &hub, ShareState::Sent);
                    self.sync.send(hub, bytes, |bytes| Command::Share { hub, block, bytes });
                }
                SenderEffect::Choose { to, ways, bytes, .. } => {
                    self.link(to, ways, LinkMessage::Choice(Blob(bytes)));
                }
                SenderEffect::Began { id, agreement } => {
                    let beginning = Beginning { side: Side::Sender, steps: self.wishes.steps(id, now) };
                    let names = Names { hubs: &self.hubs, clients: &self.roll, me: &self.me };
                    self.sessions.began(now, &beginning, &agreement, |node| names.of(node));
                }
                SenderEffect::Ended { id, block, result } => self.agreement_ended(now, id, block, result),
            }
        }
        self.sender_pads.execute(pad_effects);
        busy
    }

    pub(super) fn execute_receiver(&mut self) -> bool {
        let (now, mut pad_effects, mut busy) = (self.clock.now(), Vec::new(), false);
        while let Some(effect) = self.receiver.poll_effect() {
            busy = true;
            match effect {
                ReceiverEffect::Pad(effect) => pad_effects.push(effect),
                ReceiverEffect::Answer { id, result } => {
                    if let Some((id, results)) = self.batches.answer(id, result) {
                        self.send(Command::AnswerBatch { id, results });
                    }
                }
                ReceiverEffect::Establish(node) => self.establish(now, Subject::Node(node)),
                ReceiverEffect::Reconstruct { block, group, job } if job.is_light() => {
                    self.sessions.step(now, &block, Step::Reconstruction);
                    let result = job.run(&mut self.rng, &|| false);
                    self.reconstructed(block, group, result);
                }
                ReceiverEffect::Reconstruct { block, group, job } => {
                    self.sessions.step(now, &block, Step::Reconstruction);
                    self.reconstruct(block, group, job);
                }
                ReceiverEffect::Heard { block, hub } => {
                    self.sessions.share(now, &block, &hub, ShareState::Arrived);
                }
                ReceiverEffect::Offer { block, to, ways, bytes } => {
                    self.sessions.step(now, &block, Step::Validation);
                    self.link(to, ways, LinkMessage::Offer(Blob(bytes)));
                }
                ReceiverEffect::Confirm { to, ways, bytes, .. } => {
                    self.link(to, ways, LinkMessage::Confirmation(Blob(bytes)));
                }
                ReceiverEffect::SessionLost { sender, session } => {
                    tracing::debug!(%session, of = %sender.short(), "a round without a negotiation key");
                    self.spread(sender, &LinkMessage::SessionLost(session));
                }
                ReceiverEffect::Began(agreement) => {
                    let beginning = Beginning { side: Side::Receiver, steps: Vec::new() };
                    let names = Names { hubs: &self.hubs, clients: &self.roll, me: &self.me };
                    self.sessions.began(now, &beginning, &agreement, |node| names.of(node));
                }
                ReceiverEffect::LateShare { block, shares } => {
                    self.sessions.update(&block, |session, _| session.shares = shares);
                }
                ReceiverEffect::Progress { agreement, outcome, .. } => {
                    let names = Names { hubs: &self.hubs, clients: &self.roll, me: &self.me };
                    self.sessions.progress(now, &agreement, &outcome, |node| names.of(node));
                    let (sender, block) = (agreement.sender, agreement.block());
                    // The sender of a round has a tagged word of its own, and without a tag hears hubs alone.
                    let is_round = agreement.is_round();
                    let told = is_round && matches!(outcome, NoticeOutcome::Validated { .. });
                    let notice = Notice { block, outcome };
                    // A sender that has started since knows no more where we are than its hubs remember.
                    self.call(now, sender);
                    if self.linked.contains(&sender) && !is_round {
                        self.send(Command::Notice { sender, notice });
                    } else if !told {
                        self.spread(sender, &LinkMessage::Notice(notice));
                    }
                    self.serve_waiters(&block);
                }
            }
        }
        self.receiver_pads.execute(pad_effects);
        busy
    }

    /// A search among shares has ended.
    pub(super) fn reconstructed(&mut self, block: BlockId, group: usize, result: Reconstructed) {
        let now = self.clock.now();
        if matches!(result, Reconstructed::Key { .. }) {
            self.sessions.step(now, &block, Step::Validation);
        }
        self.receiver.handle(now, ReceiverInput::Reconstructed { block, group, result });
    }

    pub(super) fn reconstruct(&mut self, block: BlockId, group: usize, job: ReconstructJob) {
        let stopping = Arc::clone(&self.stopping);
        let run = move || job.run(&mut UnwrapErr(SysRng), &|| stopping.load(Ordering::Relaxed));
        self.work.push(Box::pin(async move {
            // A panic in there would be a bug; the agreement then ends at its deadline.
            let result = tokio::task::spawn_blocking(run).await.unwrap_or(Reconstructed::Nothing);
            (block, group, result)
        }));
    }

    pub(super) fn execute_sync(&mut self) -> bool {
        let news = self.sync.execute();
        let (now, busy) = (self.clock.now(), !news.is_empty());
        for news in news {
            match news {
                SyncNews::Dropped(Command::Share { hub, block, .. }) => {
                    self.sessions.share(now, &block, &hub, ShareState::Silent);
                    let input = SenderInput::HubAnswer { block, hub, answer: None };
                    self.sender.handle(now, input, &mut self.rng);
                }
                SyncNews::Dropped(Command::Identity { hub, about: Question::Inquiry(inquiry), .. }) => {
                    self.desk.handle(now, IdentityInput::Answer { inquiry, hub, bytes: None });
                }
                SyncNews::Dropped(Command::Identity { hub, about: Question::Limits, .. }) => {
                    self.limits.handle(now, LimitsInput::Answer { hub, bytes: None });
                }
                SyncNews::Dropped(command) => debug_assert!(false, "a client does not seal {command:?}"),
                SyncNews::Synced { peer, table, found } => self.synced(now, peer, table, &found),
                SyncNews::Lapsed { table } => self.hubs.sync_lapsed(now, table),
            }
        }
        busy
    }

    fn synced(&mut self, now: Time, peer: NodeId, table: TableId, found: &Found) {
        self.hubs.synced(&table);
        // What was compared may have voided keys.
        self.refresh_pools(now);
        self.set_limits(now);
        self.limits.handle(now, LimitsInput::Ready { hub: peer, put_back: found.is_notable() });
        if let Some(status) = self.store.tables().into_iter().find(|status| status.table == table) {
            let name = status.peer_name.as_str();
            let says_so = found.put_back && !found.settled;
            let said = self.store.said_put_back();
            let word = says_so.then(|| voices(name, &peer, &said, self.policy.k_min)).flatten();
            // What one hub says again and again is told more seldom each time.
            if word.is_some() || !says_so {
                for (level, text) in findings(&status.serial, name, found).into_iter().chain(word) {
                    self.sessions.event(level, text);
                }
            }
        }
        self.inquire(now);
        self.advance_wishes(now);
    }

    pub(super) fn execute_desk(&mut self) -> bool {
        let (now, mut pad_effects, mut busy) = (self.clock.now(), Vec::new(), false);
        while let Some(effect) = self.desk.poll_effect() {
            busy = true;
            match effect {
                IdentityEffect::Pad(effect) => pad_effects.push(effect),
                IdentityEffect::Ask { inquiry, hub, bytes } => {
                    let about = Question::Inquiry(inquiry);
                    self.sync.send(hub, bytes, |bytes| Command::Identity { hub, about, bytes });
                }
                IdentityEffect::Excluded { hub, reason } => {
                    let name = self.hubs.roll().label(&hub);
                    self.sessions.event(Level::Crit, format!("{name} is excluded: {reason}"));
                    self.hubs.exclude(&hub, Some(reason));
                    self.receiver.handle(now, ReceiverInput::ExcludeHub(hub));
                }
                IdentityEffect::Heard { subject, words } => self.identity_heard(&subject, words),
                IdentityEffect::Decided { subject, result } => self.identity_decided(now, subject, result),
                IdentityEffect::Widened(established) => self.identity_widened(now, established),
                IdentityEffect::Contradicted { established, hub, claim } => {
                    self.identity_contradicted(&established, &hub, &claim);
                }
            }
        }
        self.desk_pads.execute(pad_effects);
        busy
    }
}

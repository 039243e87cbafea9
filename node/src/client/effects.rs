//! Executes what the client's state machines put out.

use std::sync::{Arc, atomic::Ordering};

use dske_protocol::{
    ReconstructJob, Reconstructed,
    identity::IdentityEffect,
    ids::BlockId,
    message::{Notice, Subject},
    receiver::{ReceiverEffect, ReceiverInput},
    sender::SenderEffect,
};
use getrandom::SysRng;
use rand_core::UnwrapErr;

use super::{ClientActor, Names};
use crate::{network::Command, status::Level};

impl ClientActor {
    /// Executes what the machines have put out, until they are silent.
    pub(super) fn execute(&mut self) {
        loop {
            let mut busy = false;
            busy |= self.execute_sender();
            busy |= self.execute_receiver();
            busy |= self.execute_desk();
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
                    self.send(Command::Share { hub, block, bytes });
                }
                SenderEffect::Began { agreement, .. } => {
                    let names = Names { hubs: &self.hubs, identities: &self.identities, me: &self.me };
                    self.sessions.began(now, &agreement, |node| names.of(node));
                }
                SenderEffect::Ended { id, block, result } => self.key_got(now, id, block, result),
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
                    let result = job.run(&mut self.rng, &|| false);
                    let input = ReceiverInput::Reconstructed { block, group, result };
                    self.receiver.handle(now, input);
                }
                ReceiverEffect::Reconstruct { block, group, job } => self.reconstruct(block, group, job),
                ReceiverEffect::Began(agreement) => {
                    let names = Names { hubs: &self.hubs, identities: &self.identities, me: &self.me };
                    self.sessions.began(now, &agreement, |node| names.of(node));
                }
                ReceiverEffect::LateShare { block, shares } => {
                    self.sessions.update(&block, |session, _| session.shares = shares);
                }
                ReceiverEffect::Progress { agreement, outcome, .. } => {
                    let names = Names { hubs: &self.hubs, identities: &self.identities, me: &self.me };
                    self.sessions.progress(now, &agreement, &outcome, |node| names.of(node));
                    let (sender, block) = (agreement.sender, agreement.block);
                    self.send(Command::Notice { sender, notice: Notice { block, outcome } });
                    self.serve_waiters(&block);
                }
            }
        }
        self.receiver_pads.execute(pad_effects);
        busy
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

    pub(super) fn execute_desk(&mut self) -> bool {
        let (now, mut pad_effects, mut busy) = (self.clock.now(), Vec::new(), false);
        while let Some(effect) = self.desk.poll_effect() {
            busy = true;
            match effect {
                IdentityEffect::Pad(effect) => pad_effects.push(effect),
                IdentityEffect::Ask { inquiry, hub, bytes } => {
                    self.send(Command::Identity { hub, inquiry, bytes });
                }
                IdentityEffect::Excluded { hub, reason } => {
                    let name = self.hubs.name(&hub).unwrap_or_else(|| hub.short());
                    self.sessions.event(Level::Crit, format!("{name} is excluded: {reason}"));
                    self.hubs.exclude(&hub, Some(reason));
                    self.receiver.handle(now, ReceiverInput::ExcludeHub(hub));
                }
                IdentityEffect::Decided { subject, result } => self.identity_decided(now, subject, result),
            }
        }
        self.desk_pads.execute(pad_effects);
        busy
    }
}

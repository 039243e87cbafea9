//! Keys that a sender agreed with us: handed out once, to those who ask or wait for them.

use std::{collections::BTreeMap, time::Duration};

use dske_protocol::{
    ids::{BlockId, KeyId},
    params::{Time, burned_bytes},
};
use dske_storage::{BlockRecord, Side};

use super::{ClientActor, KeyReply, failures};
use crate::control::{Course, KeyDelivery, stopping, store_failure};

/// Those who wait for keys that have not come yet.
#[derive(Default)]
pub(super) struct Waiters(BTreeMap<BlockId, Vec<Waiter>>);

struct Waiter {
    id: KeyId,
    until: Time,
    reply: KeyReply,
}

impl Waiters {
    /// Answers those whose time is over.
    pub(super) fn expire(&mut self, now: Time) {
        for waiters in self.0.values_mut() {
            for waiter in waiters.extract_if(.., |waiter| waiter.until <= now || waiter.reply.is_closed()) {
                let _ = waiter.reply.send(Err(failures::unknown_key(&waiter.id)));
            }
        }
        self.0.retain(|_, waiters| !waiters.is_empty());
    }
}

impl ClientActor {
    /// Gives a key, now or when it comes; to nobody who has gone away meanwhile.
    pub(super) fn fetch(&mut self, now: Time, id: KeyId, wait: Duration, reply: KeyReply) {
        if reply.is_closed() {
            return;
        }
        if self.streams.holds(id, 1) {
            let _ = reply.send(Err(failures::in_a_pool(&id)));
            return;
        }
        let known = self.store.block(&id.block).and_then(|record| match record {
            Some(record) => Ok(Ok(record)),
            None => self.store.is_block_known(&id.block).map(Err),
        });
        match known {
            Err(error) => {
                let _ = reply.send(Err(store_failure(&error)));
            }
            Ok(Err(false)) if !wait.is_zero() => {
                self.waiters.0.entry(id.block).or_default().push(Waiter { id, until: now + wait, reply });
            }
            Ok(Err(false)) => {
                let _ = reply.send(Err(failures::unknown_key(&id)));
            }
            Ok(Err(true)) => self.refuse(id, reply),
            Ok(Ok(record)) => self.take(id, &record, reply),
        }
    }

    /// Tells why there is no key of a block whose record is not kept any longer: the store knows.
    fn refuse(&self, id: KeyId, reply: KeyReply) {
        let taken = self.store.take_key(id);
        tokio::spawn(async move {
            let why = match taken.await {
                Ok(Err(error)) => failures::take(&error),
                // Of such a block nothing waits.
                Ok(Ok(_)) => failures::unknown_key(&id),
                Err(_) => stopping(),
            };
            let _ = reply.send(Err(why));
        });
    }

    pub(super) fn take(&mut self, id: KeyId, record: &BlockRecord, reply: KeyReply) {
        let taken = self.store.take_key(id);
        let (n, k) = (record.n, record.k);
        let readers = match record.side {
            Side::Sender => record.receivers.len(),
            Side::Receiver => 1,
        };
        let burned_bytes = burned_bytes(u64::from(record.key_bytes), readers);
        let from = (record.side == Side::Receiver).then(|| self.names().of(&record.sender));
        let mut course = None;
        self.sessions.update(&id.block, |session, _| {
            let (shares, liars) = (session.shares, session.liars.clone());
            course = Some(Course { shares, liars, burned_hubs: shares, took_us: session.took_us });
        });
        tokio::spawn(async move {
            let result = match taken.await {
                Ok(Ok(key)) => {
                    let confirmed = Vec::new();
                    Ok(KeyDelivery { id, key, n, k, from, confirmed, burned_bytes, course })
                }
                Ok(Err(error)) => Err(failures::take(&error)),
                Err(_) => Err(stopping()),
            };
            let _ = reply.send(result);
        });
    }

    /// An agreement has ended: serves those who waited for it.
    pub(super) fn serve_waiters(&mut self, block: &BlockId) {
        let Some(waiters) = self.waiters.0.remove(block) else { return };
        let now = self.clock.now();
        for waiter in waiters {
            self.fetch(now, waiter.id, Duration::ZERO, waiter.reply);
        }
    }
}

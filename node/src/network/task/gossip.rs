//! Announcements, ours and those of others.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dske_protocol::codec;
use libp2p::{
    PeerId,
    gossipsub::{self, MessageAcceptance},
};

use super::super::{
    addresses::callable,
    gate::count,
    wire::{ADDRESSES_MAX, ANNOUNCEMENT_BYTES_MAX, Announcement},
};
use super::{ANNOUNCE_INTERVAL, NetworkTask};
use crate::me::node_of;

/// Between two announcements of our own.
const ANNOUNCE_PAUSE: Duration = Duration::from_millis(300);

impl NetworkTask {
    pub(super) fn gossip_event(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                let heard = self.swarm.behaviour_mut().guard.hears(&propagation_source);
                let acceptance =
                    if heard { self.hear(&message, &propagation_source) } else { MessageAcceptance::Ignore };
                let gossip = &mut self.swarm.behaviour_mut().gossip;
                gossip.report_message_validation_result(&message_id, &propagation_source, acceptance);
            }
            // Somebody new listens: tell it who we are, soon.
            gossipsub::Event::Subscribed { .. } => {
                let soon = (Instant::now() + ANNOUNCE_PAUSE).max(self.announce_from);
                self.announce_due = Some(self.announce_due.map_or(soon, |due| due.min(soon)));
            }
            _ => {}
        }
    }

    fn hear(&self, message: &gossipsub::Message, from: &PeerId) -> MessageAcceptance {
        let announcement = codec::decode::<Announcement>(&message.data, ANNOUNCEMENT_BYTES_MAX);
        let author = message.source.as_ref().and_then(node_of);
        match announcement {
            Ok(announcement)
                if Some(announcement.node) == author && announcement.addresses.len() <= ADDRESSES_MAX =>
            {
                if self.directory.hear(announcement, self.swarm.behaviour().guard.place(from), Instant::now())
                {
                    MessageAcceptance::Accept
                } else {
                    count(&self.dropped.gossip_refused);
                    MessageAcceptance::Ignore
                }
            }
            _ => MessageAcceptance::Reject,
        }
    }

    pub(super) fn publish(&mut self) {
        let now = Instant::now();
        self.announce_due = Some(now + ANNOUNCE_INTERVAL);
        // Whoever comes and goes without end must not make us speak without end; others would not hear it.
        self.announce_from = now + self.announce_rate.take(now, 1);
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let addresses = if self.announce.is_empty() {
            callable(self.swarm.listeners())
        } else {
            self.announce.iter().collect()
        };
        let announcement = Announcement {
            node: self.me,
            name: self.name.clone(),
            roles: self.roles.clone(),
            addresses: addresses.iter().take(ADDRESSES_MAX).map(ToString::to_string).collect(),
            sequence: u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX),
        };
        let Ok(bytes) = codec::encode(&announcement) else { return };
        if let Err(error) = self.swarm.behaviour_mut().gossip.publish(self.topic.clone(), bytes) {
            tracing::debug!(%error, "nobody to announce to");
        }
    }
}

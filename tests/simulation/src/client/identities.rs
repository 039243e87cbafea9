//! Who others are: inquiries, and what is made of their answers.

use std::{collections::BTreeSet, time::Duration};

use dske_protocol::{
    effect::EstablishedIdentity,
    identity::{HubWord, IdentityEffect, IdentityFailure, IdentityInput},
    ids::NodeId,
    message::{Identity, Subject},
    params::Time,
    receiver::ReceiverInput,
};
use dske_storage::IdentityRecord;

use super::ClientRole;
use crate::{
    checker::Invariant,
    core::{About, Core, Machine},
    shared::Shared,
    sync::Held,
};

const IDENTITY_TIMEOUT: Duration = Duration::from_secs(3);
const INQUIRY_PATIENCE: Duration = Duration::from_millis(600);
const INQUIRY_PATIENCE_MAX: Duration = Duration::from_secs(4);
/// Before a hub that made no claim about somebody is asked again.
const WIDEN_PAUSE: Duration = Duration::from_secs(10);

impl ClientRole {
    pub(super) fn establish(&mut self, now: Time, subject: Subject) {
        if !self.inquiries.iter().any(|(open, _)| *open == subject) {
            self.inquiries.push((subject, now));
        }
    }

    pub(super) fn inquire(&mut self, core: &Core, shared: &Shared) {
        if self.inquiries.is_empty() {
            return;
        }
        let now = core.now(shared);
        let usable = self.usable(core, shared);
        let accepted = self.hubs.values().filter(|view| !view.excluded).count();
        let all = usable.len() >= accepted;
        let enough = usable.len() >= usize::from(shared.plan.k_min);
        for (subject, since) in std::mem::take(&mut self.inquiries) {
            let waited = now.saturating_sub(since);
            if all || (enough && waited >= INQUIRY_PATIENCE) || waited >= INQUIRY_PATIENCE_MAX {
                let hubs = usable.iter().map(|&hub| shared.plan.ids[hub]).collect();
                let deadline = now + IDENTITY_TIMEOUT;
                self.desk.handle(now, IdentityInput::Establish { subject, hubs, deadline });
            } else {
                self.inquiries.push((subject, since));
            }
        }
    }

    /// Asks hubs that have made no claim about somebody who is known.
    pub(super) fn widen(&mut self, core: &Core, shared: &Shared) {
        let now = core.now(shared);
        let usable: BTreeSet<NodeId> =
            self.usable(core, shared).into_iter().map(|hub| shared.plan.ids[hub]).collect();
        if self.identities.values().all(|hubs| usable.is_subset(hubs)) {
            return;
        }
        for record in core.store.identities().unwrap_or_default() {
            let Some(claimed) = self.identities.get(&record.node) else { continue };
            let silent: Vec<NodeId> = usable.difference(claimed).copied().collect();
            let mut due = |hub: &NodeId| {
                let ask = self.asked.get(&(record.node, *hub)).is_none_or(|due| *due <= now);
                if ask {
                    self.asked.insert((record.node, *hub), now + WIDEN_PAUSE);
                }
                ask
            };
            let hubs: Vec<NodeId> = silent.into_iter().filter(|hub| due(hub)).collect();
            if !hubs.is_empty() {
                let IdentityRecord { node, name, applications, known_as, .. } = record;
                let known = EstablishedIdentity { identity: Identity { node, name, applications }, known_as };
                let deadline = now + IDENTITY_TIMEOUT;
                self.desk.handle(now, IdentityInput::Widen { known, hubs, deadline });
            }
        }
    }

    pub(super) fn desk_effect(&mut self, core: &mut Core, shared: &mut Shared, effect: IdentityEffect) {
        match effect {
            IdentityEffect::Pad(effect) => core.effect(shared, Machine::Desk, effect),
            IdentityEffect::Ask { inquiry, hub, bytes } => {
                let Some(to) = shared.plan.index(&hub) else { return };
                self.sync.send(core, shared, Held::Ask { to, about: About::Identity(inquiry), bytes });
            }
            IdentityEffect::Widened(established) => {
                shared.count("identities widened");
                let node = established.identity.node;
                if core.honest {
                    check_identity(core.me, shared, &Subject::Node(node), &established);
                }
                let hubs = established.known_as.iter().map(|(hub, _)| *hub).collect();
                self.identities.insert(node, hubs);
                self.advance(core, shared);
            }
            IdentityEffect::Heard { words, .. } => {
                for (hub, word) in words {
                    if let HubWord::Claim(claim) = word
                        && core.honest
                        && !shared.plan.is_signed(&claim)
                    {
                        let text =
                            format!("node {} heeds what {} claims and nobody signed", core.me, hub.short());
                        shared.checker.fail(Invariant::Identities, text);
                    }
                }
            }
            IdentityEffect::Contradicted { established, hub, claim } => {
                shared.count("identities contradicted");
                // Who enrolled otherwise with some hubs has signed both.
                let signed_both = shared.plan.is_signed(&established) && shared.plan.is_signed(&claim);
                let is_honest = !shared.checker.bad_hubs.contains(&hub);
                if core.honest && shared.checker.bounds.safe && is_honest && !signed_both {
                    let text =
                        format!("{}, which is honest, contradicts what node {} knows", hub.short(), core.me);
                    shared.checker.fail(Invariant::Identities, text);
                }
            }
            IdentityEffect::Excluded { hub, .. } => {
                shared.count("hubs excluded");
                if core.honest && !shared.checker.bad_hubs.contains(&hub) {
                    let text = format!("node {} excluded {}, which is honest", core.me, hub.short());
                    shared.checker.fail(Invariant::Identities, text);
                }
                let now = shared.now;
                if let Some(view) = shared.plan.index(&hub).and_then(|hub| self.hubs.get_mut(&hub)) {
                    view.excluded = true;
                    view.excluded_at.get_or_insert(now);
                }
                self.receiver.handle(core.now(shared), ReceiverInput::ExcludeHub(hub));
            }
            IdentityEffect::Decided { subject, result } => {
                self.decided(core, shared, &subject, result);
                self.advance(core, shared);
            }
        }
    }

    fn decided(
        &mut self,
        core: &mut Core,
        shared: &mut Shared,
        subject: &Subject,
        result: Result<EstablishedIdentity, IdentityFailure>,
    ) {
        if core.dead {
            return;
        }
        let now = core.now(shared);
        match result {
            Ok(established) => {
                shared.count("identities established");
                if core.honest {
                    check_identity(core.me, shared, subject, &established);
                }
                let node = established.identity.node;
                let hubs = established.known_as.iter().map(|(hub, _)| *hub).collect();
                self.identities.insert(node, hubs);
                self.receiver.handle(now, ReceiverInput::Sender { node, established: true });
            }
            Err(_) => {
                shared.count("identities not established");
                match subject {
                    Subject::Node(node) => {
                        let input = ReceiverInput::Sender { node: *node, established: false };
                        self.receiver.handle(now, input);
                        if self.identities.contains_key(node) && !self.receiver.knows(node) {
                            let who = node.short();
                            let text =
                                format!("node {} does not know {who} any more after it asked", core.me);
                            shared.checker.fail(Invariant::Identities, text);
                        }
                    }
                    Subject::Name(name) => {
                        let wishes = std::mem::take(&mut self.wishes);
                        for (wish, began) in wishes {
                            let names = &shared.plan.names;
                            if shared.wishes[wish].receivers.iter().any(|&at| names[at] == *name) {
                                self.wish_ended(shared, wish, "wish ended: receiver unknown");
                            } else {
                                self.wishes.push((wish, began));
                            }
                        }
                    }
                }
            }
        }
    }
}

fn check_identity(me: usize, shared: &mut Shared, subject: &Subject, established: &EstablishedIdentity) {
    let EstablishedIdentity { identity, known_as } = established;
    let voices: BTreeSet<&NodeId> = known_as.iter().map(|(hub, _)| hub).collect();
    if voices.len() < usize::from(shared.plan.k_min) {
        let text = format!("node {me} believes {} hubs about {}", voices.len(), identity.name);
        return shared.checker.fail(Invariant::Identities, text);
    }
    let about = match subject {
        Subject::Node(node) => identity.node == *node,
        Subject::Name(name) => identity.name == *name,
    };
    let right = about && shared.plan.index(&identity.node).is_some() && shared.plan.is_signed(identity);
    if shared.checker.bounds.safe && !right {
        let text = format!("node {me} believes that {identity:?} is {subject:?}");
        shared.checker.fail(Invariant::Identities, text);
    }
}

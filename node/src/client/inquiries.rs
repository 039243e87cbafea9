//! Who other clients are: when hubs are asked, and what follows from their answers (§2.2).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use dske_protocol::{
    effect::EstablishedIdentity,
    identity::{HubWord, IdentityFailure, IdentityInput},
    ids::NodeId,
    message::{Identity, Subject},
    params::Time,
    receiver::ReceiverInput,
};

use dske_storage::IdentityRecord;

use super::{ClientActor, Known, failures};
use crate::{clock::now_ms, config::Role, network::Command, status::Level};

/// How long hubs are given to answer an identity request.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an inquiry waits for all hubs to be usable, and for k_B of them.
const INQUIRY_PATIENCE: Duration = Duration::from_millis(600);
/// See [`INQUIRY_PATIENCE`].
const INQUIRY_PATIENCE_MAX: Duration = Duration::from_secs(4);

/// Between two looks for hubs that have made no claim about a client that is known.
const WIDEN_LOOK: Duration = Duration::from_secs(1);
/// Clients about whom more hubs are asked in one look.
const WIDEN_AT_ONCE: usize = 4;
/// Before a hub that made no claim is asked again, at first and at last: each question costs a tag key.
const WIDEN_PAUSE: Duration = Duration::from_secs(10);
/// See [`WIDEN_PAUSE`].
const WIDEN_PAUSE_MAX: Duration = Duration::from_secs(3600);

/// Before a hub that made no claim and is connected anew is asked again, after the first time: each time twice as long.
const BACK_PAUSE: Duration = Duration::from_secs(1);

/// Hubs that were asked about a client that is known.
#[derive(Default)]
pub(super) struct Asked(BTreeMap<NodeId, AskedHub>);

struct AskedHub {
    last: Time,
    due: Time,
    /// What comes after the next time.
    pause: Duration,
    /// Since the last time, before it is asked because it is connected anew: a connection that comes and goes costs a tag key
    /// each time.
    back: Duration,
}

impl Asked {
    /// Whether a hub may be asked now; if so, that counts as asking it.
    fn ask(&mut self, now: Time, hub: NodeId) -> bool {
        let Some(asked) = self.0.get_mut(&hub) else {
            let (due, pause, back) = (now + WIDEN_PAUSE, WIDEN_PAUSE * 2, Duration::ZERO);
            self.0.insert(hub, AskedHub { last: now, due, pause, back });
            return true;
        };
        if now < asked.due {
            return false;
        }
        (asked.last, asked.due) = (now, now + asked.pause);
        asked.pause = (asked.pause * 2).min(WIDEN_PAUSE_MAX);
        asked.back = (asked.back * 2).clamp(BACK_PAUSE, WIDEN_PAUSE_MAX);
        true
    }

    /// The hub is there anew, and may answer now.
    pub(super) fn is_back(&mut self, now: Time, hub: &NodeId) {
        let Some(asked) = self.0.get_mut(hub) else { return };
        if now >= asked.last + WIDEN_PAUSE_MAX {
            self.0.remove(hub);
        } else {
            asked.due = asked.due.min(asked.last + asked.back);
        }
    }
}

/// An inquiry that waits for hubs to be usable.
pub(super) struct PendingInquiry {
    subject: Subject,
    since: Time,
}

/// On whose account an identity is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Somebody has just asked for what needs it: the hubs are asked at once.
    Order,
    /// It is waited for: what was asked in vain [rests](super::in_vain).
    Timer,
}

impl ClientActor {
    /// Has the hubs asked who the receivers are that something needs.
    pub(super) fn establish_all(&mut self, now: Time, subjects: Vec<Subject>, occasion: Occasion) {
        for subject in subjects {
            if occasion == Occasion::Order || !self.in_vain.rests(now, &subject) {
                self.establish(now, subject);
            }
        }
    }

    /// Has the hubs asked who somebody is, once enough of them can be.
    pub(super) fn establish(&mut self, now: Time, subject: Subject) {
        if !self.inquiries.iter().any(|inquiry| inquiry.subject == subject) {
            self.inquiries.push(PendingInquiry { subject, since: now });
        }
        self.inquire(now);
    }

    pub(super) fn inquire(&mut self, now: Time) {
        if self.inquiries.is_empty() {
            return;
        }
        let usable = self.hubs.usable(&self.store);
        let all = usable.len() >= self.hubs.accepted().len();
        let enough = usable.len() >= usize::from(self.policy.k_min);
        let due = |inquiry: &mut PendingInquiry| {
            let waited = now.saturating_sub(inquiry.since);
            all || (enough && waited >= INQUIRY_PATIENCE) || waited >= INQUIRY_PATIENCE_MAX
        };
        for PendingInquiry { subject, .. } in self.inquiries.extract_if(.., due) {
            let hubs = usable.iter().copied().collect();
            let deadline = now + IDENTITY_TIMEOUT;
            self.desk.handle(now, IdentityInput::Establish { subject, hubs, deadline });
        }
    }

    /// Asks hubs that were away when a client became known, or that were not there yet, about that client: until
    /// they have claimed the same, they take no part in keys with it.
    pub(super) fn widen(&mut self, now: Time) {
        if now < self.widen_due {
            return;
        }
        self.widen_due = now + WIDEN_LOOK;
        let usable = self.hubs.usable(&self.store);
        let mut to_ask = BTreeMap::new();
        for (&node, known) in &mut self.identities {
            let silent: Vec<NodeId> = usable.difference(&known.hubs).copied().collect();
            let hubs: Vec<NodeId> = silent.into_iter().filter(|&hub| known.asked.ask(now, hub)).collect();
            if !hubs.is_empty() {
                to_ask.insert(node, hubs);
            }
            if to_ask.len() == WIDEN_AT_ONCE {
                break;
            }
        }
        if to_ask.is_empty() {
            return;
        }
        // What cannot be read now is asked about later; whoever needs the store hears of its trouble.
        for record in self.store.identities().unwrap_or_default() {
            if let Some(hubs) = to_ask.remove(&record.node) {
                let known = established(record);
                let deadline = now + IDENTITY_TIMEOUT;
                self.desk.handle(now, IdentityInput::Widen { known, hubs, deadline });
            }
        }
    }

    /// The hubs have said who somebody is; what follows is told after this.
    pub(super) fn identity_heard(&mut self, subject: &Subject, words: Vec<(NodeId, HubWord)>) {
        let known = match subject {
            Subject::Node(node) => self.identities.contains_key(node).then(|| self.roll.label(node)),
            Subject::Name(_) => None,
        };
        let roll = self.hubs.roll();
        let words = words.into_iter().map(|(hub, word)| (hub, roll.label(&hub), word));
        self.answers.heard(subject, known, words);
    }

    /// More hubs know a client that was known already.
    pub(super) fn identity_widened(&mut self, now: Time, established: EstablishedIdentity) {
        let EstablishedIdentity { identity, known_as } = established;
        let Some(known) = self.identities.get_mut(&identity.node) else { return };
        known.hubs = known_as.into_iter().map(|(hub, _)| hub).collect();
        self.answers.accepted(&Subject::Node(identity.node), &identity);
        let label = self.roll.label(&identity.node);
        let text = format!("{} hubs agree on the identity of {label} now", known.hubs.len());
        self.sessions.event(Level::Info, text);
        self.advance_wishes(now);
    }

    /// A hub would have a client that is known be somebody else. The hub may be honest: who enrols with it otherwise
    /// than with the others causes this.
    pub(super) fn identity_contradicted(&mut self, known: &Identity, hub: &NodeId, claim: &Identity) {
        let hub = self.hubs.roll().label(hub);
        let text = format!(
            "{hub} claims {}, where other hubs claim {}: it does not serve keys with {}; ask its operator how that client is enrolled there",
            described(claim),
            described(known),
            known.name,
        );
        self.sessions.event(Level::Warn, text);
    }

    pub(super) fn identity_decided(
        &mut self,
        now: Time,
        subject: Subject,
        result: Result<EstablishedIdentity, IdentityFailure>,
    ) {
        match &result {
            Ok(established) => {
                self.answers.accepted(&subject, &established.identity);
                let node = established.identity.node;
                let name = established.identity.name.clone();
                self.in_vain.forget(&Subject::Node(node));
                self.in_vain.forget(&Subject::Name(name.clone()));
                let hubs: BTreeSet<_> = established.known_as.iter().map(|(hub, _)| *hub).collect();
                let text = format!("the identity of {name} is established: {} hubs agree", hubs.len());
                self.sessions.event(Level::Info, text);
                self.send(Command::Acquaint { node, by: Role::Client, known: true });
                self.roll.rename(node, name.clone(), now_ms());
                self.identities.insert(node, Known { name, hubs, asked: Asked::default() });
                self.set_quotas();
                self.receiver.handle(now, ReceiverInput::Sender { node, established: true });
                self.call(now, node);
            }
            Err(error) => {
                let who = match &subject {
                    Subject::Node(node) => {
                        let node = *node;
                        self.receiver.handle(now, ReceiverInput::Sender { node, established: false });
                        self.roll.label(&node)
                    }
                    Subject::Name(name) => name.to_string(),
                };
                // Two inquiries may be under way about one client: what the first establishes, the other does not undo.
                if self.is_established(&subject) {
                    self.answers.in_vain(&subject, &error.to_string());
                } else {
                    self.answers.undecided(&subject, &error.to_string());
                    let why = self.with_versions(failures::identity(&who, error));
                    if self.in_vain.failed(now, &subject, why.clone()) {
                        let text = format!("the identity of {who} is not established: {error}");
                        self.sessions.event(Level::Warn, text);
                    }
                    self.wishes.fail(&subject, &why);
                }
            }
        }
        self.advance_wishes(now);
    }

    /// Calls another client directly, where there is no link with it and gossip has told where it is.
    pub(super) fn call(&mut self, now: Time, node: NodeId) {
        let addresses = self.directory.addresses(&node);
        if !addresses.is_empty() && !self.linked.contains(&node) && self.calls.begin(now, node) {
            self.send(Command::Dial { node, addresses, is_hub: false });
        }
    }
}

fn described(identity: &Identity) -> String {
    let Identity { node, name, applications } = identity;
    match applications.len() {
        0 => format!("{name} ({})", node.short()),
        count => format!("{name} ({}) with {count} applications", node.short()),
    }
}

fn established(record: IdentityRecord) -> EstablishedIdentity {
    let IdentityRecord { node, name, applications, known_as, .. } = record;
    EstablishedIdentity { identity: Identity { node, name, applications }, known_as }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_that_comes_back_is_asked_at_once_and_one_that_comes_and_goes_ever_more_seldom() {
        let hub = NodeId::new([1; 32]);
        let at = |secs| Time::ZERO + Duration::from_secs(secs);
        let mut asked = Asked::default();
        assert!(asked.ask(at(0), hub) && !asked.ask(at(1), hub));
        asked.is_back(at(1), &hub);
        assert!(asked.ask(at(1), hub), "it may know more now");
        // A connection that comes and goes every second, for an hour.
        let mut times = 0;
        for secs in 2..3600 {
            asked.is_back(at(secs), &hub);
            times += u32::from(asked.ask(at(secs), hub));
        }
        assert!(times <= 16, "{times} times in an hour");
        asked.is_back(at(3 * 3600), &hub);
        assert!(asked.ask(at(3 * 3600), hub), "that was long ago");
    }
}

//! Who other clients are: when hubs are asked, and what follows from their answers (§2.2).

use std::{collections::BTreeSet, time::Duration};

use dske_protocol::{
    effect::EstablishedIdentity,
    identity::{IdentityFailure, IdentityInput},
    ids::NodeId,
    message::Subject,
    params::Time,
    receiver::ReceiverInput,
};

use super::{ClientActor, Known, failures};
use crate::{network::Command, status::Level};

/// How long hubs are given to answer an identity request.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an inquiry waits for all hubs to be usable, and for k_B of them.
const INQUIRY_PATIENCE: Duration = Duration::from_millis(600);
/// See [`INQUIRY_PATIENCE`].
const INQUIRY_PATIENCE_MAX: Duration = Duration::from_secs(4);

/// An inquiry that waits for hubs to be usable.
pub(super) struct PendingInquiry {
    subject: Subject,
    since: Time,
}

impl ClientActor {
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

    pub(super) fn identity_decided(
        &mut self,
        now: Time,
        subject: Subject,
        result: Result<EstablishedIdentity, IdentityFailure>,
    ) {
        match &result {
            Ok(established) => {
                let node = established.identity.node;
                let name = established.identity.name.clone();
                let hubs: BTreeSet<_> = established.known_as.iter().map(|(hub, _)| *hub).collect();
                let text = format!("the identity of {name} is established: {} hubs agree", hubs.len());
                self.sessions.event(Level::Info, text);
                self.send(Command::Acquaint { node, known: true });
                self.identities.insert(node, Known { name, hubs });
                self.receiver.handle(now, ReceiverInput::Sender { node, established: true });
                self.call(node);
            }
            Err(error) => {
                let who = match &subject {
                    Subject::Node(node) => {
                        let node = *node;
                        self.receiver.handle(now, ReceiverInput::Sender { node, established: false });
                        node.short()
                    }
                    Subject::Name(name) => name.to_string(),
                };
                let text = format!("the identity of {who} is not established: {error}");
                self.sessions.event(Level::Warn, text);
            }
        }
        if let (Subject::Name(name), Err(error)) = (&subject, &result) {
            self.wishes.fail(name, &failures::identity(name.as_str(), error));
        }
        self.advance_wishes(now);
    }

    /// Calls another client directly, where gossip has told where it is.
    pub(super) fn call(&self, node: NodeId) {
        let addresses = self.directory.addresses(&node);
        if !addresses.is_empty() && !self.linked.contains(&node) {
            self.send(Command::Dial { node, addresses });
        }
    }
}

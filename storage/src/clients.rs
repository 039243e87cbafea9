//! The clients of a hub: each is found by its id and by its name without looking through the others, so that taking
//! one on costs the same however many there are.
//!
//! Must never: take a client on that has not signed what it asks for; let a name pass from one key to another, or a
//! key from one name to another, without the operator's word.

use dske_protocol::{
    enrolment::Signature,
    ids::{Name, NodeId},
    message::Identity,
};
use serde::{Deserialize, Serialize};

use crate::{
    error::StoreError,
    ledger::{Draft, key, kind, last_client_key, node_key},
    lock_short,
    records::ClientRecord,
    store::Store,
    transaction::Transaction,
    wait::wait,
};

/// Who asks to be taken on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applicant {
    /// What it asks to be known as.
    pub identity: Identity,
    /// Its signature over that.
    pub signature: Signature,
}

/// What the operator has said that an enrolment may change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// A key that is known by one name gets another.
    pub rename: bool,
    /// A name gets another key: who had it is not served any more.
    pub replace: bool,
}

/// A client that was taken on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// Its record.
    pub client: ClientRecord,
    /// The record that it had before.
    pub before: Option<ClientRecord>,
    /// Who had its name, and is not served any more.
    pub replaced: Option<ClientRecord>,
}

/// Why a client was not taken on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolError {
    /// The request is not signed by the key that it is about, or was changed since.
    #[error(
        "the request is not signed by the key that it names: somebody else made it, or it was changed on its way"
    )]
    NotSigned,
    /// The key is known by another name.
    #[error("this key is known here as {known_as}, and asks to be {wanted}")]
    KnownAs {
        /// The name that it has here.
        known_as: Name,
        /// The name that it asks for.
        wanted: Name,
    },
    /// The name is another key's.
    #[error("{name} is the name of another client already ({node})")]
    NameTaken {
        /// The name.
        name: Name,
        /// Whose it is.
        node: NodeId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// A client of this hub.
    #[allow(clippy::missing_errors_doc)]
    pub fn client(&self, node: &NodeId) -> Result<Option<ClientRecord>, StoreError> {
        self.engine()?.ledger.get("client", &node_key(kind::CLIENT, node))
    }

    /// The client that is served by this name.
    #[allow(clippy::missing_errors_doc)]
    pub fn client_named(&self, name: &Name) -> Result<Option<ClientRecord>, StoreError> {
        let node: Option<NodeId> = self.engine()?.ledger.get("client name", &name_key(name))?;
        node.map_or(Ok(None), |node| self.client(&node))
    }

    /// Takes a client on, or anew; its record is durable when this returns.
    ///
    /// # Errors
    /// See [`EnrolError`]; nothing is changed then.
    pub fn enrol(&self, applicant: Applicant, consent: Consent, now_ms: u64) -> Result<Enrolled, EnrolError> {
        let Applicant { identity, signature } = applicant;
        if !signature.holds(&identity) {
            return Err(EnrolError::NotSigned);
        }
        let engine = self.engine()?;
        // One at a time: two must not get one name or one number.
        let _turn = lock_short(&engine.clients);
        let before = self.client(&identity.node)?;
        let namesake = self.client_named(&identity.name)?.filter(|other| other.node != identity.node);
        let last: Option<u64> = engine.ledger.get("last client", &last_client_key())?;
        let enrolled = decide(identity, signature, before, namesake, consent)?;
        let next = last.unwrap_or(0).saturating_add(1);
        let known = enrolled.before.as_ref();
        let client = ClientRecord {
            local_id: known.map_or(next, |before| before.local_id),
            enrolled_ms: known.map_or(now_ms, |before| before.enrolled_ms),
            ..enrolled.client
        };
        let clients = enrolled.replaced.iter().cloned().chain([client.clone()]).collect();
        wait(self.commit(Transaction { clients, ..Transaction::default() }))
            .unwrap_or(Err(StoreError::Closed))?;
        Ok(Enrolled { client, ..enrolled })
    }
}

/// Whether a client is taken on, given who has its key and who has its name.
fn decide(
    identity: Identity,
    signature: Signature,
    before: Option<ClientRecord>,
    namesake: Option<ClientRecord>,
    consent: Consent,
) -> Result<Enrolled, EnrolError> {
    let Identity { node, name, applications } = identity;
    if let Some(before) = before.as_ref().filter(|before| before.name != name && !consent.rename) {
        return Err(EnrolError::KnownAs { known_as: before.name.clone(), wanted: name });
    }
    if let Some(other) = namesake.as_ref().filter(|_| !consent.replace) {
        return Err(EnrolError::NameTaken { name, node: other.node });
    }
    let replaced = namesake.map(|other| ClientRecord { enabled: false, ..other });
    let client =
        ClientRecord { node, name, local_id: 0, signature, applications, enabled: true, enrolled_ms: 0 };
    Ok(Enrolled { client, before, replaced })
}

/// Puts a client's record, with what finds it by name and the number for the next one.
pub(crate) fn put_client(draft: &mut Draft<'_>, record: &ClientRecord) -> Result<(), StoreError> {
    let place = node_key(kind::CLIENT, &record.node);
    if let Some(before) = draft.get::<ClientRecord>("client", &place)? {
        let name = name_key(&before.name);
        if draft.get::<NodeId>("client name", &name)? == Some(record.node) {
            draft.remove(name);
        }
    }
    if record.enabled {
        draft.put("client name", name_key(&record.name), &record.node)?;
    }
    let last = draft.get::<u64>("last client", &last_client_key())?.unwrap_or(0);
    if record.local_id > last {
        draft.put("last client", last_client_key(), &record.local_id)?;
    }
    draft.put("client", place, record)
}

fn name_key(name: &Name) -> Vec<u8> {
    key(kind::CLIENT_NAME, &[name.as_str().as_bytes()])
}

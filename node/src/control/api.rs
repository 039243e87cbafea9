//! What goes over the control socket.
//!
//! A caller sends one [`Request`] and reads [`Reply`] frames until one that is not
//! [`Reply::Progress`]; then it may send the next. On the wire each is a length of four bytes, little-endian,
//! and bincode.

use std::{fmt, path::PathBuf};

use dske_protocol::{ids::KeyId, naming::NodeRef};
use dske_storage::{BlockRecord, ClientRecord, Consent, ModuleRecord, SecretBytes};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{enrol::EnrolmentRequest, status::Status};

/// What the owner of a node asks of it.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// A snapshot of everything.
    Status,
    /// Agree a key with other clients, as the sender.
    KeyGet(KeyGet),
    /// Take a key that was agreed as a receiver.
    KeyFetch {
        /// Its id.
        id: KeyId,
        /// How long to wait for it.
        wait_ms: u64,
    },
    /// The newest blocks, without their keys.
    KeyList {
        /// How many at most.
        limit: u32,
    },
    /// Hub: take a client on.
    EnrolAccept {
        /// Its request.
        request: EnrolmentRequest,
        /// What that may change of what is known here.
        consent: Consent,
    },
    /// Hub: make a module.
    PskmMake {
        /// The client that it is for.
        client: NodeRef,
        /// Bytes of pad in each lane, up and down.
        lane_bytes: [u64; 2],
        /// The file to write.
        out: PathBuf,
        /// What seals it.
        seal: Seal,
    },
    /// Client: import a module.
    PskmImport {
        /// The file.
        path: PathBuf,
        /// What it was sealed with.
        seal: Seal,
        /// Overwrite and remove the file afterwards.
        wipe: bool,
    },
    /// Hub: activate a module whose receipt came back.
    PskmAck {
        /// The module.
        serial: String,
        /// What the client read out.
        receipt: String,
    },
    /// Client: use a hub again that was excluded.
    Readmit {
        /// The hub.
        hub: NodeRef,
    },
    /// Hub of a local testnet: behave badly.
    Chaos(Chaos),
    /// Agree keys ahead with a set of receivers, or change the marks of a stream that is open.
    StreamOpen(StreamSpec),
    /// Agree no more of them.
    StreamClose(StreamSpec),
    /// The next keys of a stream: all of them or none.
    StreamNext {
        /// Which; its marks do not matter.
        spec: StreamSpec,
        /// How many.
        count: u32,
        /// How long to wait for them.
        wait_ms: u64,
    },
    /// Consecutive keys of one block that a sender agreed with us.
    KeyFetchRun {
        /// The first.
        first: KeyId,
        /// How many.
        count: u32,
    },
    /// Take a module's table out of use for good.
    PskmRetire {
        /// The module.
        serial: String,
    },
}

/// A stream of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSpec {
    /// The receivers.
    pub with: Vec<NodeRef>,
    /// What the keys are for; travels in the clear.
    pub purpose: String,
    /// Length of each key; a multiple of 8.
    pub bits: u64,
    /// With fewer keys than this in the pool, more are agreed.
    pub low: u32,
    /// Until there are so many.
    pub high: u32,
}

/// Keys of one length.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeyBatch {
    /// Bytes of each key.
    pub key_bytes: u32,
    /// Where they come from, in order.
    pub runs: Vec<KeyRun>,
}

impl KeyBatch {
    /// The only key of the batch, as it is told of; `None` where it has another number of keys.
    pub fn into_single(mut self) -> Option<KeyRun> {
        let run = self.runs.pop()?;
        (self.runs.is_empty() && run.count == 1).then_some(run)
    }
}

/// Consecutive keys of one block.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeyRun {
    /// The id of the first; those that follow have the same block and the next indices.
    pub first: KeyId,
    /// How many.
    pub count: u32,
    /// The keys one after another. They are delivered once.
    #[serde(with = "super::secret")]
    pub keys: SecretBytes,
}

/// A request for a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeyGet {
    /// The receivers.
    pub with: Vec<NodeRef>,
    /// Length of the key; a multiple of 8.
    pub bits: u64,
    /// Only these hubs; empty means all that the policy allows.
    pub hubs: Vec<NodeRef>,
    /// Instead of the policy's k.
    pub k: Option<u8>,
    /// What the key is for; travels in the clear.
    pub purpose: String,
    /// Give up after this long.
    pub timeout_ms: u64,
}

/// What a module is sealed with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Seal {
    /// A passphrase.
    Passphrase(Passphrase),
    /// A file of 32 random bytes.
    KeyFile(PathBuf),
}

/// A passphrase: erased after use, never printed.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Passphrase(pub String);

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// How a hub of a testnet misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chaos {
    /// It does not.
    Off,
    /// It forwards false shares under right tags.
    FalseShares,
}

/// What the node answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// Not the end yet.
    Progress {
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::KeyGet`] and [`Request::KeyFetch`].
    Key(KeyDelivery),
    /// To [`Request::StreamNext`] and [`Request::KeyFetchRun`].
    Batch(KeyBatch),
    /// To [`Request::KeyList`], newest first.
    Keys(Vec<BlockRecord>),
    /// To [`Request::PskmMake`], [`Request::PskmAck`] and [`Request::PskmRetire`].
    Module(ModuleRecord),
    /// To [`Request::PskmImport`].
    Imported {
        /// The module.
        module: ModuleRecord,
        /// What to read to the hub's operator.
        receipt: String,
        /// Why the file could not be wiped, where that was wanted and failed.
        wipe_problem: Option<String>,
    },
    /// To [`Request::EnrolAccept`].
    Enrolled(Box<Enrolment>),
    /// To requests that have nothing to tell.
    Done,
    /// It could not be done.
    Failed(Failure),
}

/// A client that a hub has taken on.
#[derive(Debug, Serialize, Deserialize)]
pub struct Enrolment {
    /// Its record.
    pub client: ClientRecord,
    /// The record that it had before.
    pub before: Option<ClientRecord>,
    /// Who had its name until now, and is not served any more.
    pub replaced: Option<ClientRecord>,
}

/// A key and what is known about how it came about.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeyDelivery {
    /// Its id, the same on both sides.
    pub id: KeyId,
    /// The key. It is delivered once.
    #[serde(with = "super::secret")]
    pub key: SecretBytes,
    /// Hubs in the roster.
    pub n: u8,
    /// Shares needed.
    pub k: u8,
    /// The sender, by name (receivers only).
    pub from: Option<String>,
    /// Receivers that said that they validated the key, as they were named in the request (sender only).
    pub confirmed: Vec<NodeRef>,
    /// Pad bytes burned per hub for this key on this side: m + l + R·(l + 64) bits at the sender of a key for R receivers,
    /// m + 2l + 64 at a receiver.
    pub burned_bytes: u64,
    /// How it came about, where the node still knows: it is not on record, and a restart forgets it.
    #[serde(default)]
    pub course: Option<Course>,
}

/// How a key came about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    /// Shares accepted by hubs (sender) or received (receiver).
    pub shares: u8,
    /// Hubs whose share was false, by name, as far as this side knows.
    pub liars: Vec<String>,
    /// Hubs with which pad was burned: those of the roster that could be reached.
    pub burned_hubs: u8,
    /// From the request, or the first share, to the key.
    pub took_us: u64,
}

/// Why something could not be done, for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Stable name of the error, such as `dske::pad::low`.
    pub code: String,
    /// The program's exit status for it.
    pub exit: u8,
    /// What happened and where.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

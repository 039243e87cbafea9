//! Pad files, ledger, key store and modules of a node of Distributed Symmetric Key Exchange (DSKE).
//!
//! What must never happen here: a byte of a lane that serves two messages, or a key that is handed out
//! twice, by any sequence of crashes, kills, full disks and parallel callers. So every decision is on the
//! device before its effect is visible, lanes are reserved ahead, and used bytes are overwritten.
//!
//! Decisions are records of the ledger. A group of them is durable with one write and one sync of the journal
//! in front of it; sled, which keeps the ledger, gets many groups together later.
//!
//! [`Store`] is the whole of it; the two seams under it are [`disk::Disk`] and [`log::Log`].

pub mod access;
mod clients;
mod codec;
#[cfg(test)]
mod crash;
mod create;
mod direct;
pub mod disk;
mod disk_os;
pub mod effects;
mod engine;
mod erasures;
mod error;
pub mod files;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod group;
mod install;
mod intervals;
mod journal;
mod journal_header;
mod journal_record;
#[cfg(test)]
mod journal_tests;
mod journaled_log;
mod keys;
mod lane_checks;
mod lane_file;
mod lane_header;
mod lane_state;
mod layout;
mod ledger;
mod lock;
pub mod log;
mod log_sled;
mod lost_file;
mod marks;
mod open;
mod outbox;
mod overlay;
mod pads;
pub mod pskm;
mod records;
mod retire;
mod secret;
#[cfg(any(test, feature = "simulation"))]
mod sim;
#[cfg(feature = "simulation")]
pub mod simulation;
mod spool;
mod status;
mod store;
mod table;
mod transaction;
mod wait;
mod worker;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use clients::{Applicant, Consent, EnrolError, Enrolled};
pub use disk_os::{OsDisk, syncs};
pub use error::{HoldRefusal, MarksRefusal, MintError, StoreError, TakeError, TakeRefusal};
pub use keys::WaitingBlock;
pub use records::{
    BlockRecord, BlockState, BudgetRecord, ClientRecord, ClockRecord, ExclusionRecord, HubRecord,
    IdentityRecord, ModuleRecord, ModuleState, Side, StreamRecord,
};
pub use secret::SecretBytes;
pub use status::{LaneStatus, TableSide, TableState, TableStatus, Use};
pub use store::{Options, Reply, Store};
pub use transaction::{HoldWant, Minted, NewBlock, OutboxEntry, OutboxId, OutboxItem, Transaction, Want};
pub use wait::wait;

/// Locks; a thread that panicked while it held the lock left state that is still consistent, because no
/// critical section here stops half way.
pub(crate) fn lock_short<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

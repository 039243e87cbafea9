//! The hub's side of a receipt: the right phrase activates the table, a wrong one is counted, and what cannot be a receipt is
//! not.

use super::{
    error::ModuleError,
    receipt::{form, is_receipt},
};
use crate::{
    group::module_prefix,
    install::ReceiptRecord,
    ledger::{key, kind},
    lock_short,
    records::{ModuleRecord, ModuleState},
    store::Store,
    transaction::Transaction,
};

/// Wrong phrases until the module has to be made anew: of 2^29 phrases nobody guesses one in five.
const FAILURES_MAX: u32 = 5;

/// Takes a client's receipt: its table becomes active, durably.
///
/// # Errors
/// [`ModuleError::WrongReceipt`] with the tries that are left, [`ModuleError::ReceiptLocked`] when there
/// are none, [`ModuleError::NotAReceipt`], or there is no such module waiting.
pub fn acknowledge(
    store: &Store,
    serial: &str,
    receipt: &str,
    now_ms: u64,
) -> Result<ModuleRecord, ModuleError> {
    let engine = store.engine()?;
    // One at a time: parallel guesses must all be counted.
    let _turn = lock_short(&engine.modules);
    let unknown = || ModuleError::UnknownSerial { serial: serial.to_owned() };
    let stored: Vec<ModuleRecord> = engine.ledger.all("module", &module_prefix(serial))?;
    // Of the same serial there may be one that was imported here, from another hub of this one's name.
    let ours = stored.into_iter().filter(|module| module.state != ModuleState::Imported);
    let mut module = ours.min_by_key(|module| module.state != ModuleState::Made).ok_or_else(unknown)?;
    let expected: Option<ReceiptRecord> =
        engine.ledger.get("receipt", &key(kind::RECEIPT, &[serial.as_bytes()]))?;
    let mut expected = expected.ok_or_else(unknown)?;
    if !matches!(module.state, ModuleState::Made | ModuleState::Locked) {
        return Err(ModuleError::NotWaiting { serial: serial.to_owned() });
    }
    if expected.failures >= FAILURES_MAX {
        return Err(ModuleError::ReceiptLocked { serial: serial.to_owned() });
    }
    if !is_receipt(&expected.phrase, receipt) {
        // Only of what is wrong: how long this takes depends on what was typed.
        if let Err(detail) = form(receipt) {
            let left = FAILURES_MAX - expected.failures;
            return Err(ModuleError::NotAReceipt { serial: serial.to_owned(), detail, left });
        }
        expected.failures += 1;
        let left = FAILURES_MAX - expected.failures;
        let mut transaction = Transaction::default();
        if left == 0 {
            module.state = ModuleState::Locked;
            module.changed_ms = now_ms;
            transaction.modules.push(module);
        }
        store.commit_with_receipt(transaction, Some(expected))?;
        return Err(ModuleError::WrongReceipt { serial: serial.to_owned(), left });
    }
    module.state = ModuleState::Acknowledged;
    module.changed_ms = now_ms;
    let transaction =
        Transaction { modules: vec![module.clone()], activate: vec![module.table], ..Transaction::default() };
    store.commit_with_receipt(transaction, None)?;
    Ok(module)
}

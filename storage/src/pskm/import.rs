//! Importing a module at the client: everything is verified before the table exists, which happens once per
//! table for ever. After a crash it goes on from the last piece that was verified and synced.

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use dske_protocol::ids::{NAME_BYTES_MAX, Name, NodeId};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{
    error::ModuleError,
    frames::{Frames, LENGTH_BYTES, SEAL_BYTES},
    key::{FileKeys, ModuleKey},
    manifest::{Header, Manifest},
    partial::{Partial, piece_bytes, pieces_before},
    receipt::ReceiptPhrase,
};
use crate::{
    engine::Engine,
    files,
    install::NewTable,
    ledger::table_key,
    lock_short,
    records::{HubRecord, ModuleRecord, ModuleState},
    status::{TableSide, TableState},
    store::Store,
    table::TableRecord,
};

/// Progress is made durable after this many bytes.
const NOTE_BYTES: u64 = 16 << 20;

/// How to import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportOptions {
    /// This node; the module must have been made for it.
    pub me: NodeId,
    /// Overwrite and remove the module file afterwards.
    pub wipe: bool,
    /// The time.
    pub now_ms: u64,
}

/// A module that was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Its record.
    pub module: ModuleRecord,
    /// What to tell the hub.
    pub receipt: ReceiptPhrase,
    /// Why the module file could not be wiped, where that was wanted and failed. The table exists all the
    /// same; the file has to be destroyed by hand.
    pub wipe_problem: Option<String>,
}

/// Imports a module: its table waits for the hub's word that the receipt has come back, and its hub is
/// known, when this returns.
///
/// Blocks, for gigabytes for a while: call it on a thread of its own. `progress` gets bytes done and total.
///
/// # Errors
/// See [`ModuleError`]. After any of them there is no table. What was verified of a file that could not be
/// read further is kept for the next try, unless the file is damaged or the disk is full.
pub fn import(
    store: &Store,
    path: &Path,
    key: &ModuleKey,
    options: ImportOptions,
    progress: &dyn Fn(u64, u64),
) -> Result<Imported, ModuleError> {
    let engine = store.engine()?;
    engine.check()?;
    let mut module = OpenModule::open(path, key)?;
    let _turn = lock_short(&engine.modules);
    let manifest = module.manifest.clone();
    if manifest.client != options.me {
        let name = manifest.client_name.to_string();
        return Err(ModuleError::NotForUs { client: manifest.client, name });
    }
    if manifest.hub == options.me {
        return Err(ModuleError::OurOwn);
    }
    let known: Option<TableRecord> = engine.ledger.get("table", &table_key(&manifest.table))?;
    if known.is_some() {
        return Err(ModuleError::AlreadyImported { table: manifest.table });
    }
    let (table, done) = start(&engine, &module)?;
    let imported = copy(&mut module, &table, done, progress)
        .and_then(|()| table.place_table())
        .and_then(|()| record(store, &manifest, options.now_ms).inspect_err(|_| table.take_back()));
    match &imported {
        Ok(_) => table.finish(),
        Err(ModuleError::Damaged { .. } | ModuleError::Full { .. }) => table.discard(),
        Err(_) => {}
    }
    let record = imported?;
    drop(module);
    let wipe_problem = if options.wipe { wipe(path).err().map(|error| error.to_string()) } else { None };
    Ok(Imported {
        module: record,
        receipt: ReceiptPhrase::from_secret(&manifest.receipt_secret),
        wipe_problem,
    })
}

/// A module file whose first frame has been opened.
pub(super) struct OpenModule {
    path: std::path::PathBuf,
    input: BufReader<File>,
    frames: Frames,
    keys: FileKeys,
    /// Names the file: digest of its header.
    id: [u8; 32],
    pub(super) header: Header,
    pub(super) manifest: Manifest,
}

impl OpenModule {
    pub(super) fn open(path: &Path, key: &ModuleKey) -> Result<Self, ModuleError> {
        let file = File::open(path).map_err(|error| ModuleError::io("open", path, &error))?;
        let mut input = BufReader::new(file);
        let (header, header_bytes) = Header::read(&mut input, path)?;
        let keys = key.derive(header.stretch, &header.salt)?;
        let id = *blake3::hash(&header_bytes).as_bytes();
        let mut frames = Frames::new(&keys, header_bytes);
        let first = frames.read(&mut input, false).map_err(|error| error.at(0, path))?;
        let first = first.ok_or(ModuleError::WrongKey)?;
        let manifest = Manifest::from_bytes(&first, &header)?;
        Ok(Self { path: path.to_owned(), input, frames, keys, id, header, manifest })
    }

    /// Opens the next frame.
    fn next(&mut self, last: bool) -> Result<Zeroizing<Vec<u8>>, ModuleError> {
        let number = self.frames.next();
        let frame = self.frames.read(&mut self.input, last).map_err(|error| error.at(number, &self.path))?;
        frame.ok_or_else(|| ModuleError::damaged(number, "its seal does not hold"))
    }

    /// Passes over the frames of the first `bytes` of pads.
    fn skip(&mut self, bytes: u64) -> Result<(), ModuleError> {
        let frames = pieces_before(self.manifest.lane_bytes, bytes);
        let sealed = bytes + frames * (LENGTH_BYTES + SEAL_BYTES) as u64;
        let offset = i64::try_from(sealed).map_err(|_| ModuleError::damaged(0, "it is too long"))?;
        let moved = self.input.seek(SeekFrom::Current(offset));
        moved.map_err(|error| ModuleError::io("read", &self.path, &error))?;
        self.frames.skip(frames);
        Ok(())
    }
}

fn start(engine: &Engine, module: &OpenModule) -> Result<(Partial, u64), ModuleError> {
    let Manifest { table, lane_bytes, .. } = module.manifest;
    match Partial::resume(engine, table, lane_bytes, module.id)? {
        Some(resumed) => Ok(resumed),
        None => Ok((Partial::create(engine, table, lane_bytes)?, 0)),
    }
}

fn copy(
    module: &mut OpenModule,
    table: &Partial,
    done: u64,
    progress: &dyn Fn(u64, u64),
) -> Result<(), ModuleError> {
    let total = module.header.bytes;
    let lane_bytes = module.manifest.lane_bytes;
    let done = done.min(total);
    let mut digest = Zeroizing::new(blake3::Hasher::new_keyed(&module.keys.digest));
    let mut at = 0;
    // What a crash left is read again: the digest at the end is over what is really there.
    while at < done {
        let piece = piece_bytes(lane_bytes, at).min(done - at);
        digest.update(&table.read(at, piece)?);
        at += piece;
        progress(at, total);
    }
    module.skip(done)?;
    let mut noted = done;
    while at < total {
        let piece = module.next(false)?;
        if piece.len() as u64 != piece_bytes(lane_bytes, at) {
            return Err(ModuleError::damaged(module.frames.next() - 1, "it has the wrong length"));
        }
        table.write(at, &piece)?;
        digest.update(&piece);
        at += piece.len() as u64;
        if at - noted >= NOTE_BYTES {
            table.note(module.id, at)?;
            noted = at;
        }
        progress(at, total);
    }
    let last = module.next(true)?;
    if !bool::from(last.as_slice().ct_eq(digest.finalize().as_bytes())) {
        return Err(ModuleError::damaged(module.frames.next() - 1, "the pads do not have their digest"));
    }
    let mut tail = [0; 1];
    match module.input.read(&mut tail) {
        Ok(0) => table.note(module.id, at),
        Ok(_) => Err(ModuleError::damaged(module.frames.next(), "the file goes on after its last frame")),
        Err(error) => Err(ModuleError::io("read", &module.path, &error)),
    }
}

fn record(store: &Store, manifest: &Manifest, now_ms: u64) -> Result<ModuleRecord, ModuleError> {
    let hub = hub_record(store.hubs()?, manifest, now_ms)?;
    let module =
        ModuleRecord { hub_name: hub.name.clone(), ..manifest.record(ModuleState::Imported, now_ms) };
    let record = TableRecord {
        table: manifest.table,
        serial: manifest.serial.clone(),
        peer: manifest.hub,
        peer_name: hub.name.clone(),
        side: TableSide::Client,
        // The hub uses it only once the receipt has come back to it, and so do we (§2.1).
        state: TableState::Pending,
        activation: 0,
        lane_bytes: manifest.lane_bytes,
        forged_blocks: 0,
        quarantine: None,
    };
    store.install(NewTable { record, module: module.clone(), hub: Some(hub), receipt: None })?;
    Ok(module)
}

/// What is recorded of the module's hub. It keeps the name under which it came first, and a name that another hub has
/// here it does not get: it cannot take another's place by what it calls itself.
fn hub_record(hubs: Vec<HubRecord>, manifest: &Manifest, now_ms: u64) -> Result<HubRecord, ModuleError> {
    let (node, addresses) = (manifest.hub, manifest.hub_addresses.clone());
    if let Some(known) = hubs.iter().find(|hub| hub.node == node) {
        return Ok(HubRecord { addresses, ..known.clone() });
    }
    let is_free = |name: &Name| hubs.iter().all(|hub| hub.name != *name);
    let name = std::iter::once(Some(manifest.hub_name.clone()))
        .chain((ID_DIGITS_MIN..=ID_DIGITS_MAX).map(|digits| told_apart(&manifest.hub_name, &node, digits)))
        .flatten()
        .find(is_free);
    let name =
        name.ok_or_else(|| ModuleError::NameTaken { hub: node, name: manifest.hub_name.to_string() })?;
    // After all others, whatever the clock says: of two that a text fits, a policy means the first.
    let later = hubs.iter().map(|hub| hub.since_ms.saturating_add(1)).max().unwrap_or(0);
    Ok(HubRecord { node, name, addresses, since_ms: later.max(now_ms) })
}

/// Digits of the id of a hub behind its name, where that is another's.
const ID_DIGITS_MIN: usize = 8;
/// See [`ID_DIGITS_MIN`].
const ID_DIGITS_MAX: usize = 24;

/// A name with the beginning of the id, such as `p1.3f2a9c01`.
fn told_apart(name: &Name, node: &NodeId, digits: usize) -> Option<Name> {
    let id: String = node.to_string().chars().take(digits).collect();
    let name: String = name.as_str().chars().take(NAME_BYTES_MAX - 1 - digits).collect();
    format!("{name}.{id}").parse().ok()
}

/// Overwrites the file, syncs, and removes it.
fn wipe(path: &Path) -> Result<(), ModuleError> {
    let fail = |error: std::io::Error| ModuleError::io("wipe", path, &error);
    let mut file = files::open_own(path, false).map_err(fail)?;
    let len = file.metadata().map_err(fail)?.len();
    let mut zeros = std::io::repeat(0).take(len);
    std::io::copy(&mut zeros, &mut file).map_err(fail)?;
    file.sync_all().map_err(fail)?;
    std::fs::remove_file(path).map_err(fail)
}

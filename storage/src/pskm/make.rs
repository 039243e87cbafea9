//! Making a module at the hub: one thread draws the pads, another keeps, seals and writes them. Memory is
//! constant; the table exists, pending, only when both the lanes and the sealed file are on the device.

use std::{
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

use dske_protocol::ids::{Name, NodeId, TableId};
use rustix::fs::{FallocateFlags, fallocate};
use zeroize::Zeroizing;

use super::{
    entropy::{EntropyError, EntropySource},
    error::ModuleError,
    frames::{Frames, LENGTH_BYTES, SEAL_BYTES},
    key::{FileKeys, ModuleKey, SALT_BYTES, draw},
    manifest::{HEADER_BYTES, Header, LANE_BYTES_MAX, LANE_BYTES_MIN, Manifest},
    partial::{self, Partial, piece_bytes, pieces_before},
    receipt::ReceiptPhrase,
};
use crate::{
    files::Draft,
    install::{NewTable, ReceiptRecord},
    lock_short,
    records::{ClientRecord, ModuleRecord, ModuleState},
    status::{TableSide, TableState},
    store::Store,
    table::TableRecord,
};

/// Frames that wait between the two threads.
const FRAMES_AHEAD: usize = 4;

/// What a module tells its client about the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubContact {
    /// The hub's node id.
    pub node: NodeId,
    /// What people call it.
    pub name: Name,
    /// Multiaddresses where it is reached.
    pub addresses: Vec<String>,
}

/// What to make.
#[derive(Debug)]
pub struct MakeModule<'a> {
    /// For whom.
    pub client: &'a ClientRecord,
    /// By whom.
    pub hub: HubContact,
    /// Pad bytes of each lane, up and down.
    pub lane_bytes: [u64; 2],
    /// The file to write; it must not exist.
    pub out: &'a Path,
    /// Under which key to seal it.
    pub key: &'a ModuleKey,
    /// The time.
    pub now_ms: u64,
}

/// Makes a module. The hub's table is pending until [`super::acknowledge`].
///
/// Blocks, for gigabytes for a while: call it on a thread of its own. `progress` gets bytes done and total.
///
/// # Errors
/// See [`ModuleError`]. After any of them neither a table nor a file is left.
pub fn make(
    store: &Store,
    request: &MakeModule<'_>,
    entropy: &mut dyn EntropySource,
    progress: &dyn Fn(u64, u64),
) -> Result<ModuleRecord, ModuleError> {
    let engine = store.engine()?;
    engine.check()?;
    let (min, max) = (LANE_BYTES_MIN, LANE_BYTES_MAX);
    if let Some(&bytes) = request.lane_bytes.iter().find(|bytes| !(min..=max).contains(*bytes)) {
        return Err(ModuleError::Size { bytes, min, max });
    }
    if request.out.symlink_metadata().is_ok() {
        return Err(ModuleError::OutExists(request.out.to_owned()));
    }
    // One at a time: they share the count in the serials and the cores.
    let _turn = lock_short(&engine.modules);
    partial::sweep(&engine);
    let manifest = plan(store, request)?;
    let out = OutFile::create(request.out)?;
    let table = Partial::create(&engine, manifest.table, manifest.lane_bytes);
    let table = table?;
    let made = fill(&table, &out, request, &manifest, entropy, progress).and_then(|()| out.keep()).and_then(
        |placed| {
            table
                .place_table()
                .and_then(|()| record(store, request, &manifest).inspect_err(|_| table.take_back()))
                .inspect_err(|_| placed.take_back())
        },
    );
    if made.is_err() {
        table.discard();
    }
    made
}

fn plan(store: &Store, request: &MakeModule<'_>) -> Result<Manifest, ModuleError> {
    let (mut table, mut receipt_secret) = ([0; 16], [0; 16]);
    draw(&mut table)?;
    draw(&mut receipt_secret)?;
    Ok(Manifest {
        table: TableId::new(table),
        serial: next_serial(store, &request.hub.name)?,
        hub: request.hub.node,
        hub_name: request.hub.name.clone(),
        hub_addresses: request.hub.addresses.clone(),
        client: request.client.node,
        client_name: request.client.name.clone(),
        lane_bytes: request.lane_bytes,
        made_ms: request.now_ms,
        receipt_secret,
    })
}

fn next_serial(store: &Store, hub: &Name) -> Result<String, ModuleError> {
    let prefix = format!("{hub}-");
    let count = |module: ModuleRecord| module.serial.strip_prefix(&prefix)?.parse::<u64>().ok();
    let last = store.modules()?.into_iter().filter_map(count).max().unwrap_or(0);
    Ok(format!("{prefix}{:04}", last + 1))
}

fn fill(
    table: &Partial,
    out: &OutFile,
    request: &MakeModule<'_>,
    manifest: &Manifest,
    entropy: &mut dyn EntropySource,
    progress: &dyn Fn(u64, u64),
) -> Result<(), ModuleError> {
    let mut salt = [0; SALT_BYTES];
    draw(&mut salt)?;
    let header = Header { bytes: request.lane_bytes.iter().sum(), salt, stretch: request.key.stretch() };
    let keys = request.key.derive(header.stretch, &salt)?;
    out.allocate(sealed_bytes(manifest))?;
    std::thread::scope(|scope| {
        let (sender, pads) = sync_channel(FRAMES_AHEAD);
        let lane_bytes = manifest.lane_bytes;
        scope.spawn(move || draw_pads(entropy, lane_bytes, &sender));
        seal(table, out, &header, &keys, manifest, &pads, progress)
    })
}

fn draw_pads(
    entropy: &mut dyn EntropySource,
    lane_bytes: [u64; 2],
    sender: &SyncSender<Result<Zeroizing<Vec<u8>>, EntropyError>>,
) {
    let total = lane_bytes[0] + lane_bytes[1];
    let mut at = 0;
    while at < total {
        let piece = piece_bytes(lane_bytes, at);
        let len = usize::try_from(piece).unwrap_or(0);
        let mut pads = room_for(len);
        pads.resize(len, 0);
        let drawn = entropy.fill(&mut pads).map(|()| pads);
        let failed = drawn.is_err();
        if sender.send(drawn).is_err() || failed {
            return;
        }
        at += piece;
    }
}

/// Room for a frame and its seal, so that the bytes never move and leave a copy behind.
fn room_for(bytes: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(bytes + SEAL_BYTES))
}

fn frame_of(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut frame = room_for(bytes.len());
    frame.extend_from_slice(bytes);
    frame
}

fn seal(
    table: &Partial,
    out: &OutFile,
    header: &Header,
    keys: &FileKeys,
    manifest: &Manifest,
    pads: &Receiver<Result<Zeroizing<Vec<u8>>, EntropyError>>,
    progress: &dyn Fn(u64, u64),
) -> Result<(), ModuleError> {
    let fail = |error: std::io::Error| ModuleError::io("write", &out.path, &error);
    let mut writer = BufWriter::new(out.draft.file());
    let header_bytes = header.to_bytes()?;
    writer.write_all(&header_bytes).map_err(fail)?;
    let mut frames = Frames::new(keys, header_bytes);
    let mut digest = Zeroizing::new(blake3::Hasher::new_keyed(&keys.digest));
    let mut first = frame_of(&Zeroizing::new(manifest.to_bytes()?));
    frames.write(&mut writer, &mut first, false).map_err(fail)?;
    let mut at = 0;
    while at < header.bytes {
        let stopped =
            || EntropyError::Failed { name: "pads".to_owned(), cause: "its thread stopped".to_owned() };
        let mut piece = pads.recv().map_err(|_| stopped())??;
        table.write(at, &piece)?;
        digest.update(&piece);
        at += piece.len() as u64;
        frames.write(&mut writer, &mut piece, false).map_err(fail)?;
        progress(at, header.bytes);
    }
    let mut last = frame_of(digest.finalize().as_bytes());
    frames.write(&mut writer, &mut last, true).map_err(fail)?;
    writer.flush().map_err(fail)?;
    table.sync()
}

fn record(store: &Store, request: &MakeModule<'_>, manifest: &Manifest) -> Result<ModuleRecord, ModuleError> {
    let phrase = ReceiptPhrase::from_secret(&manifest.receipt_secret);
    let module = manifest.record(ModuleState::Made, request.now_ms);
    let record = TableRecord {
        table: manifest.table,
        serial: manifest.serial.clone(),
        peer: manifest.client,
        peer_name: manifest.client_name.clone(),
        side: TableSide::Hub,
        state: TableState::Pending,
        activation: 0,
        lane_bytes: manifest.lane_bytes,
        forged_blocks: 0,
        quarantine: None,
    };
    let receipt =
        ReceiptRecord { serial: manifest.serial.clone(), phrase: phrase.as_str().to_owned(), failures: 0 };
    store.install(NewTable { record, module: module.clone(), hub: None, receipt: Some(receipt) })?;
    Ok(module)
}

/// Size of the sealed file.
fn sealed_bytes(manifest: &Manifest) -> u64 {
    let [up, down] = manifest.lane_bytes;
    let frame = (LENGTH_BYTES + SEAL_BYTES) as u64;
    let manifest_bytes = manifest.to_bytes().map_or(0, |bytes| bytes.len() as u64);
    let pieces = pieces_before(manifest.lane_bytes, up) + pieces_before([down, 0], down);
    HEADER_BYTES as u64 + manifest_bytes + up + down + 32 + (pieces + 2) * frame
}

/// The file that is being written; under its own name only when it is complete.
struct OutFile {
    path: PathBuf,
    draft: Draft,
}

impl OutFile {
    fn create(path: &Path) -> Result<Self, ModuleError> {
        let draft = Draft::nameless(path).map_err(|error| ModuleError::io("write", path, &error))?;
        Ok(Self { path: path.to_owned(), draft })
    }

    /// Finds out at once whether there is space.
    fn allocate(&self, bytes: u64) -> Result<(), ModuleError> {
        match fallocate(self.draft.file(), FallocateFlags::empty(), 0, bytes) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            Err(error) => Err(ModuleError::io("write", &self.path, &error.into())),
        }
    }

    /// Gives it its name.
    fn keep(self) -> Result<Placed, ModuleError> {
        let Self { path, draft } = self;
        match draft.keep() {
            Ok(()) => Ok(Placed(path)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(ModuleError::OutExists(path))
            }
            Err(error) => Err(ModuleError::io("finish", &path, &error)),
        }
    }
}

/// A file of ours that has its name.
struct Placed(PathBuf);

impl Placed {
    fn take_back(&self) {
        // It may have been removed meanwhile.
        let _ = std::fs::remove_file(&self.0);
    }
}

//! Erasures that are due. They are collected, put in order, merged and done together, so that many small
//! runs cost one pass over the file and one sync.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use dske_protocol::ids::{Lane, TableId};

use crate::{
    disk::Disk,
    error::StoreError,
    intervals::IntervalSet,
    lane_file::LaneFile,
    retire::destroy,
    spool::{Run, Spool},
};

/// One run that is to be zeroed.
pub(crate) enum Erasure {
    /// Of a lane; `receiver` where the peer allocates from it.
    Lane { table: TableId, lane: Lane, file: Arc<LaneFile>, receiver: bool, start: u64, end: u64 },
    /// All of a retired table, whose directory goes with it.
    Table { disk: Arc<dyn Disk>, dir: PathBuf },
    /// Of the outbox.
    Outbox(Run),
    /// Of the keys.
    Key(Run),
}

struct LaneWork {
    file: Arc<LaneFile>,
    receiver: bool,
    runs: IntervalSet,
}

/// Does all of them: zeros, a sync per file, and the record of it in the lanes' headers. Gives the tables in which it met
/// pads that are not what was written, and what is wrong with them.
pub(crate) fn erase_all(
    due: Vec<Erasure>,
    outbox: &Spool,
    keys: &Spool,
) -> Result<Vec<(TableId, String)>, StoreError> {
    let mut lanes: BTreeMap<(TableId, Lane), LaneWork> = BTreeMap::new();
    let (mut outbox_runs, mut key_runs, mut tables) = (Vec::new(), Vec::new(), Vec::new());
    for erasure in due {
        match erasure {
            Erasure::Lane { table, lane, file, receiver, start, end } => {
                let work = LaneWork { file, receiver, runs: IntervalSet::default() };
                lanes.entry((table, lane)).or_insert(work).runs.insert(start, end);
            }
            Erasure::Table { disk, dir } => tables.push((disk, dir)),
            Erasure::Outbox(run) => outbox_runs.push(run),
            Erasure::Key(run) => key_runs.push(run),
        }
    }
    let mut damaged = Vec::new();
    for ((table, _), work) in &lanes {
        let runs: Vec<(u64, u64)> = work.runs.iter().collect();
        let met = work.file.erase(&runs, work.receiver)?;
        damaged.extend(met.map(|byte| (*table, work.file.damage(byte))));
    }
    for (spool, mut runs) in [(outbox, outbox_runs), (keys, key_runs)] {
        if !runs.is_empty() {
            runs.sort_unstable();
            spool.erase(&runs)?;
        }
    }
    for (disk, dir) in tables {
        // Nothing depends on these files any more: what fails is tried again at the next start.
        if let Err(error) = destroy(&*disk, &dir, &|_, _| ()) {
            tracing::warn!(%error, "the pads of a retired table could not be erased; the next start tries again");
        }
    }
    Ok(damaged)
}

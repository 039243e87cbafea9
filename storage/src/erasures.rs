//! Erasures that are due. They are collected, put in order, merged and done together, so that many small
//! runs cost one pass over the file and one sync.

use std::{collections::BTreeMap, sync::Arc};

use dske_protocol::ids::{Lane, TableId};

use crate::{
    error::StoreError,
    intervals::IntervalSet,
    lane_file::LaneFile,
    spool::{Run, Spool},
};

/// One run that is to be zeroed.
pub(crate) enum Erasure {
    /// Of a lane; `receiver` where the peer allocates from it.
    Lane { table: TableId, lane: Lane, file: Arc<LaneFile>, receiver: bool, start: u64, end: u64 },
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

/// Does all of them: zeros, a sync per file, and the record of it in the lanes' headers.
pub(crate) fn erase_all(due: Vec<Erasure>, outbox: &Spool, keys: &Spool) -> Result<(), StoreError> {
    let mut lanes: BTreeMap<(TableId, Lane), LaneWork> = BTreeMap::new();
    let (mut outbox_runs, mut key_runs) = (Vec::new(), Vec::new());
    for erasure in due {
        match erasure {
            Erasure::Lane { table, lane, file, receiver, start, end } => {
                let work = LaneWork { file, receiver, runs: IntervalSet::default() };
                lanes.entry((table, lane)).or_insert(work).runs.insert(start, end);
            }
            Erasure::Outbox(run) => outbox_runs.push(run),
            Erasure::Key(run) => key_runs.push(run),
        }
    }
    for work in lanes.values() {
        let runs: Vec<(u64, u64)> = work.runs.iter().collect();
        work.file.erase(&runs, work.receiver)?;
    }
    for (spool, mut runs) in [(outbox, outbox_runs), (keys, key_runs)] {
        if !runs.is_empty() {
            runs.sort_unstable();
            spool.erase(&runs)?;
        }
    }
    Ok(())
}

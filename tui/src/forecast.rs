//! What a client's pads are good for, in the protocol's own terms: how long all n hubs can take part in its keys, and
//! how long any k of them can.

use dske_node::status::Status;
use dske_protocol::{
    ids::{Lane, Name},
    params::burned_bytes,
};
use dske_storage::TableSide;

use crate::{history::History, text};

/// The rate of late is over this long.
pub(crate) const RATE_MS: u64 = 30_000;

/// The pad of a client with one hub in one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pad {
    pub(crate) hub: String,
    pub(crate) left_bytes: u64,
    /// `None` where it is not used.
    pub(crate) empty_in_s: Option<u64>,
}

/// See the head of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forecast {
    /// The one that is empty first.
    pub(crate) first: Pad,
    /// The one with which the k-th hub goes; `None` where fewer than k have pads at all.
    pub(crate) quorum: Option<Pad>,
    pub(crate) hubs: usize,
    pub(crate) k: u8,
}

impl Forecast {
    /// Of the lane that a client sends on (up) or receives on (down).
    pub(crate) fn new(status: &Status, history: &History, lane: Lane) -> Option<Self> {
        let k = status.policy.as_ref()?.k;
        let late = |peer: &Name| -> u64 {
            let tables = status
                .tables
                .iter()
                .filter(|table| table.peer_name == *peer && table.side == TableSide::Client);
            let growths = tables.filter_map(|table| history.lane(&table.table, lane));
            growths.filter_map(|growth| growth.per_s_milli(RATE_MS)).sum::<u64>() / 1_000
        };
        let mut pads: Vec<Pad> = status
            .pads
            .iter()
            // What it burns as a hub is none of its own keys.
            .filter(|pad| pad.side == TableSide::Client && pad.lane == lane && pad.bytes > 0)
            .map(|pad| Pad {
                hub: pad.peer.to_string(),
                left_bytes: pad.left_bytes,
                empty_in_s: Some(pad.bytes_per_s.max(late(&pad.peer)))
                    .filter(|rate| *rate > 0)
                    .map(|rate| pad.left_bytes / rate),
            })
            .collect();
        pads.sort_by_key(|pad| (pad.empty_in_s.unwrap_or(u64::MAX), pad.left_bytes));
        let first = pads.first()?.clone();
        // With k hubs left, the next to go takes the quorum with it.
        let quorum = pads.len().checked_sub(usize::from(k)).and_then(|at| pads.get(at)).cloned();
        Some(Self { first, quorum, hubs: pads.len(), k })
    }

    /// `all 5 hubs 6h08 (p1 ends it), any 3 for 1d21h (p3)`
    pub(crate) fn told(&self, bits: u64) -> String {
        let Self { first, quorum, hubs, k } = self;
        let all = format!("all {hubs} hubs {} ({} ends it)", first.told(bits), first.hub);
        match quorum {
            None => format!("{all}; fewer than k = {k} hubs have pads: no key"),
            Some(quorum) if quorum.hub == first.hub => format!("{all}, and with it the quorum of {k}"),
            Some(quorum) => format!("{all}; any {k} {} ({})", quorum.told(bits), quorum.hub),
        }
    }
}

impl Pad {
    fn told(&self, bits: u64) -> String {
        match self.empty_in_s {
            Some(seconds) => format!("until {}", text::short_time(seconds.saturating_mul(1_000_000))),
            None => format!("for {} keys", text::short_count(keys(self.left_bytes, bits))),
        }
    }
}

/// Keys of so many bits that a pad is good for: each burns m + 2l + 64 bits of it, where it is for one receiver.
pub(crate) fn keys(left_bytes: u64, bits: u64) -> u64 {
    left_bytes / burned_bytes(bits / 8, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pad(hub: &str, empty_in_s: Option<u64>) -> Pad {
        Pad { hub: hub.into(), left_bytes: 6400, empty_in_s }
    }

    #[test]
    fn it_speaks_of_hubs_and_quorum() {
        let first = pad("p1", Some(22_080));
        let forecast = |quorum| Forecast { first: first.clone(), quorum, hubs: 5, k: 3 };
        assert_eq!(
            forecast(Some(pad("p3", Some(162_000)))).told(256),
            "all 5 hubs until 6h08 (p1 ends it); any 3 until 1d21h (p3)"
        );
        assert_eq!(
            forecast(Some(pad("p3", None))).told(256),
            "all 5 hubs until 6h08 (p1 ends it); any 3 for 61 keys (p3)"
        );
        assert!(forecast(None).told(256).contains("no key"));
        assert!(forecast(Some(first.clone())).told(256).contains("quorum of 3"));
    }
}

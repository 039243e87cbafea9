//! How much pad the tables of a testnet hold, and in which direction.

use crate::cli::lane_sizes::halves;

/// What the other lane of a table of which only one serves in bulk is given: identities, marks and what a node reserves ahead
/// of need fit many times.
const ASIDE_BYTES: u64 = 4 << 20;

/// Pad bytes of every table of a testnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pads {
    /// So many in a table, half of them in each lane: every client may ask for keys.
    BothWays(u64),
    /// So many in the lane that carries shares: up from the first client, which alone asks for keys, and down to the others.
    OneWay(u64),
}

impl Pads {
    /// Bytes of the lanes, up and down, of each table of a client.
    pub(crate) fn lane_bytes(self, first_client: bool) -> [u64; 2] {
        match (self, first_client) {
            (Self::BothWays(bytes), _) => halves(bytes),
            (Self::OneWay(bytes), true) => [bytes, ASIDE_BYTES],
            (Self::OneWay(bytes), false) => [ASIDE_BYTES, bytes],
        }
    }

    /// Bytes of one table; all tables of a testnet have as many.
    pub(crate) fn table_bytes(self) -> u64 {
        self.lane_bytes(true).iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_as_large_as_what_goes_through_them() {
        assert_eq!(Pads::BothWays(9).lane_bytes(true), [5, 4]);
        assert_eq!(Pads::BothWays(8).lane_bytes(false), [4, 4]);
        let one_way = Pads::OneWay(1 << 30);
        let [[up, aside], [other_aside, down]] = [true, false].map(|first| one_way.lane_bytes(first));
        assert_eq!((up, down), (1 << 30, 1 << 30));
        assert!(aside == other_aside && aside < 1 << 24);
        assert_eq!(one_way.table_bytes(), up + aside);
    }
}

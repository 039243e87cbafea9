//! How many pad bytes a module gets in each direction: the same in both, or as its client will use them.

use clap::Args;

use crate::cli::units;

/// `--size`, or `--up` and `--down`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(crate) struct LaneSizes {
    /// Pad bytes in it, half in each direction, such as 64MiB
    #[arg(long, value_parser = units::parse_size, required_unless_present_all = ["up", "down"])]
    size: Option<u64>,
    /// Pad bytes from the client to the hub, for the keys that the client asks for
    #[arg(long, value_parser = units::parse_size, conflicts_with = "size", requires = "down")]
    up: Option<u64>,
    /// Pad bytes from the hub to the client, for the keys that others ask for with the client
    #[arg(long, value_parser = units::parse_size, conflicts_with = "size", requires = "up")]
    down: Option<u64>,
}

impl LaneSizes {
    /// Bytes of the two lanes, up and down.
    pub(crate) fn lane_bytes(self) -> [u64; 2] {
        let [up, down] = halves(self.size.unwrap_or_default());
        [self.up.unwrap_or(up), self.down.unwrap_or(down)]
    }
}

/// Two lanes out of a total.
pub(crate) const fn halves(bytes: u64) -> [u64; 2] {
    [bytes.div_ceil(2), bytes / 2]
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        sizes: LaneSizes,
    }

    fn lanes(line: &str) -> Option<[u64; 2]> {
        Some(Line::try_parse_from(line.split(' ')).ok()?.sizes.lane_bytes())
    }

    #[test]
    fn a_total_or_both_directions() {
        assert_eq!(lanes("make --size 64KiB"), Some([32 << 10; 2]));
        assert_eq!(lanes("make --size 9"), Some([5, 4]));
        assert_eq!(lanes("make --up 1MiB --down 16KiB"), Some([1 << 20, 16 << 10]));
        for line in ["make", "make --up 1MiB", "make --down 1MiB", "make --size 1MiB --up 1MiB --down 1MiB"] {
            assert_eq!(lanes(line), None, "{line}");
        }
    }
}

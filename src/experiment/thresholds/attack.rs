//! The kinds of attack, and how many bad hubs each of them takes by the paper (§4.2).

use clap::ValueEnum;
use rand::{Rng, RngExt, seq::SliceRandom};
use serde::Serialize;

use crate::experiment::world::Conduct;

/// A kind of attack: what is wrong with each of the bad hubs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Attack {
    /// Hubs that answer nobody
    Silent,
    /// Hubs whose messages to the receiver are lost
    CutOff,
    /// Messages to hubs that are changed on their way
    RequestChanged,
    /// Messages from hubs that are changed on their way
    InstructionChanged,
    /// Hubs that send false shares under right tags, each on its own
    FalseShare,
    /// Hubs that send false shares under right tags, which support each other
    ColludingShare,
    /// Hubs that tell a receiver that the sender is somebody else
    FalseIdentity,
    /// Each bad hub one of the above, drawn at random
    Mixed,
    /// Hubs that together put forward a key of their own, and are heard first
    Injection,
}

/// What [`Attack::Mixed`] draws from: all that a hub does by itself.
const MIXTURE: [Conduct; 6] = [
    Conduct::Silent,
    Conduct::CutOff,
    Conduct::RequestChanged,
    Conduct::InstructionChanged,
    Conduct::FalseShare,
    Conduct::FalseIdentity,
];

impl Attack {
    /// What the figure calls it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Silent => "hub is silent",
            Self::CutOff => "link to receiver cut",
            Self::RequestChanged => "request changed on its way",
            Self::InstructionChanged => "share changed on its way",
            Self::FalseShare => "false share, right tag",
            Self::ColludingShare => "colluding false shares",
            Self::FalseIdentity => "false identity claim",
            Self::Mixed => "all of these, mixed",
            Self::Injection => "key injected together",
        }
    }

    /// What each of n hubs does where `bad` of them, drawn at random, are bad.
    pub(super) fn conducts(self, n: u8, bad: u8, rng: &mut impl Rng) -> Vec<Conduct> {
        let mut conducts: Vec<Conduct> =
            (0..n).map(|at| if at < bad { self.conduct(rng) } else { Conduct::Honest }).collect();
        conducts.shuffle(rng);
        conducts
    }

    fn conduct(self, rng: &mut impl Rng) -> Conduct {
        match self {
            Self::Silent => Conduct::Silent,
            Self::CutOff => Conduct::CutOff,
            Self::RequestChanged => Conduct::RequestChanged,
            Self::InstructionChanged => Conduct::InstructionChanged,
            Self::FalseShare => Conduct::FalseShare,
            Self::ColludingShare => Conduct::ColludingShare,
            Self::FalseIdentity => Conduct::FalseIdentity,
            Self::Injection => Conduct::Injection,
            Self::Mixed => MIXTURE[rng.random_range(0..MIXTURE.len())],
        }
    }

    /// Whether the receiver must not know the sender yet for the attack to have an aim.
    pub(super) fn needs_a_stranger(self) -> bool {
        matches!(self, Self::FalseIdentity | Self::Mixed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    #[test]
    fn exactly_the_bad_hubs_are_bad() {
        let mut rng = StdRng::seed_from_u64(1);
        for attack in Attack::value_variants() {
            for bad in 0..=9 {
                let conducts = attack.conducts(9, bad, &mut rng);
                assert_eq!(conducts.len(), 9);
                assert_eq!(conducts.iter().filter(|c| **c != Conduct::Honest).count(), usize::from(bad));
            }
        }
    }
}

//! What can be wrong with a hub or with the ways to and from it (§4.1): the sites of attack.

/// How a hub behaves, or what happens on its links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// As it should.
    Honest,
    /// The hub is down: it answers nobody.
    Silent,
    /// What the hub sends to the receiver is lost.
    CutOff,
    /// What the sender sends to the hub is changed on its way: its tag does not fit any more.
    RequestChanged,
    /// What the hub sends to the receiver is changed on its way.
    InstructionChanged,
    /// The hub forwards a share that is not the sender's, under a right tag; each hub lies in its own way.
    FalseShare,
    /// The same, but the lies of all such hubs lie on one polynomial, so that their shares support each other.
    ColludingShare,
    /// The hub tells the receiver, under a right tag, that the sender is somebody else; all such hubs alike.
    FalseIdentity,
    /// Such hubs together put forward a key of their own under the same block id, with its key tag and with the
    /// least k that the receiver accepts, and they are heard first.
    Injection,
}

impl Conduct {
    /// Whether the sender's message reaches the hub at all.
    pub(super) fn hears(self) -> bool {
        self != Self::Silent
    }

    /// Whether the receiver hears of the hub.
    pub(super) fn delivers(self) -> bool {
        !matches!(self, Self::Silent | Self::CutOff)
    }

    /// Whether the adversary speaks in the hub's place, with its pads.
    pub(super) fn is_impersonated(self) -> bool {
        matches!(self, Self::ColludingShare | Self::Injection)
    }
}

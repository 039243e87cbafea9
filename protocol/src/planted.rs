//! Deliberate mistakes in the code of the project, to see that the simulation catches them.
//!
//! Without the feature `planted-faults`, which nothing but `tests/simulation` turns on, [`planted`] is the
//! constant `false`, and no mistake is in the program. With it one of them can be selected for the whole process.

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say what is wrong")]
pub enum Fault {
    TagNotChecked,
    TagComparedInPart,
    KeyTagNotChecked,
    GroupIgnoresKeyTag,
    GroupIgnoresAgreement,
    PositionByArrival,
    HubSpeaksTwice,
    EndedBlockAccepted,
    LateShareNotChecked,
    AnnouncedBeforeRecord,
    DeadlineNeverFires,
    ExcludedHubAccepted,
    IdentityOfFewerThanKMin,
    ConflictExcludes,
    UnsignedClaimCounts,
    FailedInquiryDemotes,
    ForwardsAgainstPolicy,
    ForgedTagBurnsPad,
    AnsweredBeforeRecord,
    SharesSwapped,
    LeaseNotAwaited,
    SkipLeftOut,
    SeenOverstated,
    JournalNotSynced,
    CheckpointNotSynced,
    LaneHeaderNotSynced,
    LaneHeaderNotWritten,
    LaneMarkNotInLedger,
    CursorNotSkipped,
    UsedRunAccepted,
    ErasedPadAccepted,
    ClaimNotRecorded,
    FailedWriteReportedAsDone,
    KeyTakenTwice,
    KeyBytesNotSynced,
    OutboxIdReused,
    ConfirmedByNotice,
    HelloBelieved,
    OneHubVoids,
    LateWordVoids,
    VoidErasesTaken,
    KeyOfAnyPlace,
    BlockForgotten,
    OneKeyTagKeyForAll,
    PlacesForWhoComesFirst,
    OneOfferOnly,
    AgainOneWay,
    ForgeriesEndRounds,
    AnybodyHasAVoice,
    SessionLostByOne,
    MintsFromEitherSide,
    ClosesEitherSide,
    BlockIdOfAnyone,
    SearchEndsAgreement,
    LeftTableStays,
    SettleActivates,
    LostLaneIsOld,
    QuotaKeepsItsTime,
    SpendingForgotten,
    LimitsNotAskedAgain,
    LimitsNotRecorded,
    OlderLimitsTaken,
    LimitsNotApplied,
    SendersShareAQuota,
    RestForOneRefusal,
    SendersShareAHubsPlaces,
    PostInOrderOfArrival,
    UnansweredOrderForgotten,
    OneVersionForTwoOrders,
}

impl Fault {
    /// Those that the simulation catches.
    pub const ALL: [Self; 64] = [
        Self::TagNotChecked,
        Self::TagComparedInPart,
        Self::KeyTagNotChecked,
        Self::GroupIgnoresKeyTag,
        Self::GroupIgnoresAgreement,
        Self::PositionByArrival,
        Self::HubSpeaksTwice,
        Self::EndedBlockAccepted,
        Self::LateShareNotChecked,
        Self::AnnouncedBeforeRecord,
        Self::DeadlineNeverFires,
        Self::ExcludedHubAccepted,
        Self::IdentityOfFewerThanKMin,
        Self::ConflictExcludes,
        Self::UnsignedClaimCounts,
        Self::FailedInquiryDemotes,
        Self::ForwardsAgainstPolicy,
        Self::ForgedTagBurnsPad,
        Self::AnsweredBeforeRecord,
        Self::SharesSwapped,
        Self::LeaseNotAwaited,
        Self::SkipLeftOut,
        Self::SeenOverstated,
        Self::JournalNotSynced,
        Self::CheckpointNotSynced,
        Self::LaneHeaderNotSynced,
        Self::LaneHeaderNotWritten,
        Self::LaneMarkNotInLedger,
        Self::CursorNotSkipped,
        Self::UsedRunAccepted,
        Self::ErasedPadAccepted,
        Self::ClaimNotRecorded,
        Self::FailedWriteReportedAsDone,
        Self::KeyTakenTwice,
        Self::KeyBytesNotSynced,
        Self::OutboxIdReused,
        Self::ConfirmedByNotice,
        Self::HelloBelieved,
        Self::OneHubVoids,
        Self::OneKeyTagKeyForAll,
        Self::PlacesForWhoComesFirst,
        Self::OneOfferOnly,
        Self::AgainOneWay,
        Self::ForgeriesEndRounds,
        Self::AnybodyHasAVoice,
        Self::SessionLostByOne,
        Self::MintsFromEitherSide,
        Self::ClosesEitherSide,
        Self::BlockIdOfAnyone,
        Self::SearchEndsAgreement,
        Self::LeftTableStays,
        Self::LostLaneIsOld,
        Self::QuotaKeepsItsTime,
        Self::SpendingForgotten,
        Self::LimitsNotAskedAgain,
        Self::LimitsNotRecorded,
        Self::OlderLimitsTaken,
        Self::LimitsNotApplied,
        Self::SendersShareAQuota,
        Self::RestForOneRefusal,
        Self::SendersShareAHubsPlaces,
        Self::PostInOrderOfArrival,
        Self::UnansweredOrderForgotten,
        Self::OneVersionForTwoOrders,
    ];

    /// One that takes a hub, cut off since before a restore until after the next start, and a key that waits all the while:
    /// `protocol/tests/planted.rs` catches it.
    pub const OF_RESTORES: [Self; 1] = [Self::LateWordVoids];

    /// Those that the simulation does not reach, whose blocks have one key each: `storage/tests/planted.rs` catches them.
    pub const OF_THE_KEY_STORE: [Self; 3] =
        [Self::VoidErasesTaken, Self::KeyOfAnyPlace, Self::BlockForgotten];

    /// One that takes a table whose records disagree before its receipt has come back: `storage/tests/planted.rs` catches it.
    pub const OF_TABLES: [Self; 1] = [Self::SettleActivates];
}

#[cfg(feature = "planted-faults")]
static SELECTED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(usize::MAX);

/// Makes one mistake, or none, from now on.
#[cfg(feature = "planted-faults")]
pub fn select(fault: Option<Fault>) {
    let number = fault.map_or(usize::MAX, |fault| fault as usize);
    SELECTED.store(number, std::sync::atomic::Ordering::SeqCst);
}

/// Whether this mistake is to be made.
#[cfg(feature = "planted-faults")]
#[inline]
pub fn planted(fault: Fault) -> bool {
    SELECTED.load(std::sync::atomic::Ordering::Relaxed) == fault as usize
}

/// Whether this mistake is to be made: never.
#[cfg(not(feature = "planted-faults"))]
#[inline]
pub const fn planted(_fault: Fault) -> bool {
    false
}

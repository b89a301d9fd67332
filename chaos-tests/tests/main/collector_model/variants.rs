//! How large the model is, and in what way its protocol is weakened.

/// How many of everything there are.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Writers.
    pub writers: usize,
    /// Sessions that each writer may begin.
    pub sessions: u8,
    /// Collectors.
    pub collectors: usize,
    /// Generations.
    pub generations: usize,
    /// Packs that all writers together may put.
    pub puts: u8,
    /// Packs that all collectors together may write.
    pub repacks: u8,
    /// Whether a point is sealed over one of the snapshots.
    pub has_point: bool,
    /// Whether what has happened is remembered, for the sanity properties.
    pub remembers: bool,
}

/// A way to break the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// The collector gives a session up without taking its commit key.
    TimeoutWithoutFence,
    /// The collector deletes the announcement and leaves the commit key.
    FenceByDeletingAnnouncement,
    /// The writer reads what is condemned before it announces itself.
    ReadCondemnedBeforeAnnounce,
    /// The collector lists sessions before it condemns.
    ListSessionsBeforeCondemn,
    /// The collector does not wait for anybody.
    NoWait,
    /// What is condemned is deleted without another look.
    NoRemark,
    /// Each collector deletes what it has found itself.
    NoSingleOutcome,
    /// The old pack is condemned and given up before the segment of the new one is there.
    CondemnBeforeIndexRepacked,
    /// A delta counts as a location without its base.
    DeltaBaseNotMarked,
    /// The writer counts a delta as stored whose base is condemned.
    DeltaOnCondemnedBase,
    /// The parent is not looked at after the announcement.
    ParentNotChecked,
    /// The parent is looked at before what is condemned is read.
    ParentCheckedBeforeCondemned,
    /// A parent is taken over without look-up although something is condemned.
    TakeoverWhileCondemned,
    /// The writer finds packs by the index that are condemned.
    ReuseOfCondemned,
    /// An entry of the index counts although nobody has looked at the pack.
    NoLookAtPack,
    /// The collector counts entries of the index whose pack is not listed.
    ChooseUnlisted,
    /// A capture forgets its checkpoint before the commit that replaces it.
    CheckpointForgottenEarly,
    /// The next session is announced after the checkpoint's commit.
    NextAnnouncedLate,
    /// The same, and the checkpoint is taken for granted.
    NextAnnouncedLateUnchecked,
    /// The checkpoint is taken for granted (the next session is announced before it).
    CheckpointUnchecked,
    /// A generation is opened while another is open.
    NextGenerationBeforeDone,
    /// The same, but what any open generation condemns counts for none of them as a location.
    CarefulOverlap,
    /// The same, and writers read the newest open generation only.
    WriterIgnoresOlderGeneration,
    /// Generations that are done are tidied away, and nobody looks again before deleting.
    TidyWithoutCheckOpen,
    /// Forgets are listed after points and commits.
    ForgetsListedLast,
    /// A point is not checked against forgets after it was created.
    PointNotChecked,
}

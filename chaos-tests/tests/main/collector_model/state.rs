//! The state of the model: what is in the store, and what each party remembers, as small masks.
//!
//! There are two chunks, A and B; B may be stored as a delta whose base is A. A pack is a slot with
//! what it holds; a mask of slots is a set of packs. Slots of packs that are gone and that nobody can
//! mention again are used anew, parties and packs are put in order: states that differ by names alone
//! are one state.

use super::variants::Bounds;

/// The most packs that are remembered at a time.
pub const SLOTS: usize = 8;
/// The most writers.
pub const WRITERS: usize = 3;
/// The most sessions of one writer.
pub const SESSIONS: usize = 3;
/// The most collectors.
pub const COLLECTORS: usize = 3;
/// The most generations.
pub const GENERATIONS: usize = 3;

/// A set of packs.
pub type Packs = u8;
/// A set of chunks.
pub type Chunks = u8;
/// A set of sessions: writer times [`SESSIONS`] plus its number; the last is the first snapshot.
pub type SessionSet = u16;

/// The chunk that may be a base.
pub const A: Chunks = 1;
/// The chunk that may be a delta.
pub const B: Chunks = 2;
/// In what a pack holds: B as a delta on A.
pub const DELTA_B: u8 = 4;
/// No pack.
pub const NO_PACK: u8 = 0xff;
/// The set of the snapshot that is there from the beginning.
pub const FIRST: SessionSet = 1 << 15;

/// What stands at a session's two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stands {
    /// Nothing: it is not announced.
    Nothing,
    /// The announcement alone.
    Announced,
    /// A variant has deleted the announcement.
    Withdrawn,
    /// A tombstone at the commit key; or a snapshot that is forgotten and that nobody can name.
    Closed,
    /// A snapshot that refers to these chunks.
    Committed(Chunks),
    /// The same, and it is forgotten.
    Forgotten(Chunks),
}

/// Where a writer is: the step that it takes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WriterStep {
    /// Create the announcement.
    Announce,
    /// List `gc/` and read what is condemned.
    ReadCondemned,
    /// Choose a parent that is not forgotten.
    CheckParent,
    /// Take over, find by the index, or put a pack.
    Store,
    /// Create the segment that names the pack.
    IndexPacks,
    /// Create the snapshot, or begin a checkpoint.
    Commit,
    /// The next session is announced: read what is condemned for it.
    ReadCondemnedNext,
    /// Create the checkpoint.
    CommitCheckpoint,
    /// Look whether the checkpoint is forgotten.
    CheckCheckpoint,
    /// Variant: announce the next session after the checkpoint's commit.
    AnnounceNextLate,
    /// Nothing more.
    Ended,
}

/// What a writer remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Writer {
    /// What it does next.
    pub step: WriterStep,
    /// The number of its session.
    pub session: u8,
    /// The packs that it takes for absent.
    pub known: Packs,
    /// Nothing was condemned when it read.
    pub is_clean: bool,
    /// What the parent refers to; empty without a parent.
    pub parent: Chunks,
    /// What its snapshot will refer to.
    pub refs: Chunks,
    /// The pack that waits for its segment.
    pub pack: u8,
    /// Its session before this one is a checkpoint to be forgotten.
    pub has_checkpoint: bool,
    /// What stands in the store for each of its sessions.
    pub sessions: [Stands; SESSIONS],
}

/// Where a collector is: the step that it takes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CollectorStep {
    /// List `gc/`; mark and choose what may go.
    Survey,
    /// Create the segment of a repacked pack.
    IndexRepacked,
    /// Create `condemned`.
    Condemn,
    /// Variant: list sessions before anything is condemned.
    ListSessionsEarly,
    /// List what is announced without commit.
    ListSessions,
    /// Wait or fence.
    Resolve,
    /// List commits and points (forgets were listed before).
    Remark,
    /// List the index and the packs; decide what goes.
    Relocate,
    /// Create merged segments.
    WriteIndex,
    /// Create `outcome`.
    Decide,
    /// List `gc/` again: is the generation over?
    CheckOpen,
    /// Delete the segments that the outcome replaces.
    RemoveSegments,
    /// Delete the packs of the outcome; create `done`.
    Sweep,
}

/// What a collector remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Collector {
    /// What it does next.
    pub step: CollectorStep,
    /// The number of its generation.
    pub generation: u8,
    /// What is condemned, or is to be.
    pub condemned: Packs,
    /// The sessions that it has to see resolved.
    pub sessions: SessionSet,
    /// The snapshots that were forgotten when it looked.
    pub forgets: SessionSet,
    /// What is referred to.
    pub live: Chunks,
    /// What goes.
    pub sweep: Packs,
    /// What its merged segments name.
    pub merged: Packs,
    /// What the segments that they replace name beyond that.
    pub dropped: Packs,
    /// The new pack that waits for its segment.
    pub copy: u8,
}

/// What stands below `gc/<number>/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation {
    /// `condemned`.
    pub condemned: Option<Packs>,
    /// `outcome`: what goes, and what no segment names any more once those it replaces are gone.
    pub outcome: Option<(Packs, Packs)>,
    /// `done`.
    pub is_done: bool,
}

/// A point that names a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Point {
    /// There is none.
    None,
    /// It is created, and names this session.
    Created(u8),
    /// Its creator has seen afterwards that the snapshot is not forgotten.
    Sealed(u8),
    /// It was not so; the creator takes it back.
    GivenUp,
}

/// What has happened, for the sanity properties; empty unless they are asked for.
pub type Seen = u16;

/// The whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// The packs in the store.
    pub exists: Packs,
    /// The packs that a segment names.
    pub indexed: Packs,
    /// What each pack holds: chunks in full, and [`DELTA_B`].
    pub content: [u8; SLOTS],
    /// The snapshot that is there from the beginning.
    pub first: Stands,
    /// The writers.
    pub writers: [Writer; WRITERS],
    /// The collectors.
    pub collectors: [Collector; COLLECTORS],
    /// The generations, oldest first.
    pub generations: [Generation; GENERATIONS],
    /// The point.
    pub point: Point,
    /// Packs that writers may still put.
    pub puts_left: u8,
    /// Packs that collectors may still write.
    pub repacks_left: u8,
    /// A capture has forgotten its checkpoint before the commit that replaces it.
    pub has_forgotten_early: bool,
    /// And was fenced after that.
    pub has_lost_progress: bool,
    /// See [`Seen`].
    pub seen: Seen,
}

/// The pack as a set.
pub fn pack_bit(pack: u8) -> Packs {
    if pack == NO_PACK { 0 } else { 1 << pack }
}

/// Says whether a chunk can be read from these packs: in full, or as a delta whose base is in full.
pub fn resolves(content: &[u8; SLOTS], packs: Packs, chunk: Chunks, needs_base: bool) -> bool {
    let holding = |what: u8| slots(packs).any(|slot| content[slot] & what != 0);
    holding(chunk) || (chunk == B && holding(DELTA_B) && (!needs_base || holding(A)))
}

/// Says whether all chunks of a set can be read from these packs.
pub fn all_resolve(content: &[u8; SLOTS], packs: Packs, chunks: Chunks) -> bool {
    each(chunks).all(|chunk| resolves(content, packs, chunk, true))
}

/// The members of a set of packs.
pub fn slots(packs: Packs) -> impl Iterator<Item = usize> + Clone {
    (0..SLOTS).filter(move |slot| packs >> slot & 1 == 1)
}

/// The members of a set of chunks.
pub fn each(chunks: Chunks) -> impl Iterator<Item = Chunks> {
    [A, B].into_iter().filter(move |chunk| chunks & chunk != 0)
}

/// A writer's session in a set.
pub fn session_bit(writer: usize, session: usize) -> SessionSet {
    1 << (writer * SESSIONS + session)
}

impl Writer {
    /// One that has just started, or that is not there.
    pub fn new(is_there: bool) -> Self {
        Self {
            step: if is_there { WriterStep::Announce } else { WriterStep::Ended },
            session: 0,
            known: 0,
            is_clean: true,
            parent: 0,
            refs: 0,
            pack: NO_PACK,
            has_checkpoint: false,
            sessions: [Stands::Nothing; SESSIONS],
        }
    }

    /// Returns what stands for its session.
    pub fn stands(&self) -> Stands {
        self.sessions[usize::from(self.session)]
    }
}

impl Collector {
    /// One that has just started.
    pub fn new() -> Self {
        Self {
            step: CollectorStep::Survey,
            generation: 0,
            condemned: 0,
            sessions: 0,
            forgets: 0,
            live: 0,
            sweep: 0,
            merged: 0,
            dropped: 0,
            copy: NO_PACK,
        }
    }
}

impl State {
    /// Pack 0 holds A, and the first snapshot refers to it; pack 1 holds B as a delta on A, and is left
    /// of a session that was cut off.
    pub fn new(bounds: &Bounds) -> Self {
        let nothing = Generation { condemned: None, outcome: None, is_done: false };
        let mut content = [0; SLOTS];
        content[..2].copy_from_slice(&[A, DELTA_B]);
        Self {
            exists: 0b11,
            indexed: 0b11,
            content,
            first: Stands::Committed(A),
            writers: std::array::from_fn(|n| Writer::new(n < bounds.writers)),
            collectors: [Collector::new(); COLLECTORS],
            generations: [nothing; GENERATIONS],
            point: Point::None,
            puts_left: bounds.puts,
            repacks_left: bounds.repacks,
            has_forgotten_early: false,
            has_lost_progress: false,
            seen: 0,
        }
    }

    /// The packs that can be found: they are there, and a segment names them.
    pub fn located(&self) -> Packs {
        self.exists & self.indexed
    }

    /// Every session with what stands for it.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionSet, Stands)> + '_ {
        let of_writers = self.writers.iter().enumerate().flat_map(|(writer, remembered)| {
            let sessions = remembered.sessions.iter().enumerate();
            sessions.map(move |(session, stands)| (session_bit(writer, session), *stands))
        });
        of_writers.chain([(FIRST, self.first)])
    }

    /// Returns what stands for a session.
    pub fn stands(&self, bit: SessionSet) -> Stands {
        if bit == FIRST {
            return self.first;
        }
        let n = bit.trailing_zeros() as usize;
        self.writers[n / SESSIONS].sessions[n % SESSIONS]
    }

    /// Replaces what stands for a session.
    pub fn put(&mut self, bit: SessionSet, stands: Stands) {
        let n = bit.trailing_zeros() as usize;
        if bit == FIRST {
            self.first = stands;
        } else {
            self.writers[n / SESSIONS].sessions[n % SESSIONS] = stands;
        }
    }

    /// Returns a slot for a new pack; none where all are taken.
    pub fn new_pack(&mut self, content: u8) -> Option<u8> {
        let slot = (0..SLOTS).find(|slot| self.content[*slot] == 0)?;
        self.content[slot] = content;
        self.exists |= 1 << slot;
        Some(slot as u8)
    }

    /// The newest generation that is done, as a count: 0 where none is.
    pub fn done_count(&self) -> usize {
        self.generations.iter().rposition(|generation| generation.is_done).map_or(0, |n| n + 1)
    }
}

//! The steps of writers, in the order of `repository::session`: announce, read what is condemned, check
//! the parent; store; index; commit. Any step may be the last: a process that is killed begins again.

use super::Protocol;
use super::state::{
    A, B, Chunks, DELTA_B, NO_PACK, Packs, SessionSet, Stands, State, Writer, WriterStep,
    all_resolve, pack_bit, resolves, session_bit,
};
use super::variants::Variant;

/// One step of a writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriterAction {
    /// W1 `announce`.
    Announce,
    /// W2 `read_condemned`.
    ReadCondemned,
    /// W3 `check_parent`: this one is not forgotten; or there is none.
    CheckParent(Option<SessionSet>),
    /// W4 `reuse`: all that the parent refers to, without look-up.
    TakeOver,
    /// W4 `reuse`: these chunks were found by the index, and their packs looked at.
    Reuse(Chunks),
    /// W5 `put_packs`: a pack that holds this (beside what is taken over).
    PutPacks(u8),
    /// W6 `index_packs`.
    IndexPacks,
    /// W7 `commit`.
    Commit,
    /// Announce the session behind a checkpoint.
    AnnounceNext,
    /// Commit the checkpoint.
    CommitCheckpoint,
    /// Check that the checkpoint is not forgotten, and go on behind it.
    CheckCheckpoint,
    /// A variant: forget the checkpoint before the commit that replaces it.
    ForgetCheckpoint,
    /// The process died; another begins.
    BeginAgain,
}

/// Offers what a writer may do.
pub fn actions(protocol: &Protocol, state: &State, n: usize, offer: &mut dyn FnMut(WriterAction)) {
    let writer = &state.writers[n];
    match writer.step {
        WriterStep::Ended => return,
        WriterStep::Announce => offer(WriterAction::Announce),
        WriterStep::ReadCondemned | WriterStep::ReadCondemnedNext => {
            offer(WriterAction::ReadCondemned);
        }
        WriterStep::CheckParent => {
            offer(WriterAction::CheckParent(None));
            // A parent is of use only to who may take it over.
            let is_of_use =
                has_yet_to_read(protocol, writer) || may_take_over_from(protocol, writer);
            for (bit, stands) in state.sessions().filter(|_| is_of_use) {
                if matches!(stands, Stands::Committed(_)) {
                    offer(WriterAction::CheckParent(Some(bit)));
                }
            }
        }
        WriterStep::Store => store_actions(protocol, state, writer, offer),
        WriterStep::IndexPacks => offer(WriterAction::IndexPacks),
        WriterStep::Commit => {
            offer(WriterAction::Commit);
            if next_session(protocol, writer).is_some() && !writer.has_checkpoint {
                offer(match protocol.variant {
                    Some(Variant::NextAnnouncedLate | Variant::NextAnnouncedLateUnchecked) => {
                        WriterAction::CommitCheckpoint
                    }
                    _ => WriterAction::AnnounceNext,
                });
            }
        }
        WriterStep::CommitCheckpoint => offer(WriterAction::CommitCheckpoint),
        WriterStep::AnnounceNextLate => offer(WriterAction::AnnounceNext),
        WriterStep::CheckCheckpoint => offer(WriterAction::CheckCheckpoint),
    }
    let has_begun = writer.stands() != Stands::Nothing;
    if has_begun && next_session(protocol, writer).is_some() {
        offer(WriterAction::BeginAgain);
    }
}

fn store_actions(
    protocol: &Protocol,
    state: &State,
    writer: &Writer,
    offer: &mut dyn FnMut(WriterAction),
) {
    // One that is closed cannot commit: only what it puts is of any consequence.
    let is_closed = writer.stands() == Stands::Closed;
    let may_take_over = may_take_over(protocol, writer);
    if may_take_over && !is_closed {
        offer(WriterAction::TakeOver);
    }
    let usable = usable(protocol, state, writer);
    for chunks in [A, B, A | B].into_iter().filter(|_| !is_closed) {
        if all_resolve(&state.content, usable, chunks) {
            offer(WriterAction::Reuse(chunks));
        }
    }
    if state.puts_left > 0 {
        offer(WriterAction::PutPacks(A));
        offer(WriterAction::PutPacks(B));
        let bases = match protocol.variant {
            Some(Variant::DeltaOnCondemnedBase) => state.located(),
            _ => usable,
        };
        let is_parents = may_take_over && writer.parent & A != 0;
        if is_parents || resolves(&state.content, bases, A, true) {
            offer(WriterAction::PutPacks(DELTA_B));
        }
    }
    let forgets_early = protocol.variant == Some(Variant::CheckpointForgottenEarly);
    if forgets_early && writer.has_checkpoint && !state.has_forgotten_early {
        offer(WriterAction::ForgetCheckpoint);
    }
}

fn may_take_over(protocol: &Protocol, writer: &Writer) -> bool {
    may_take_over_from(protocol, writer) && writer.parent != 0
}

fn may_take_over_from(protocol: &Protocol, writer: &Writer) -> bool {
    writer.is_clean || protocol.variant == Some(Variant::TakeoverWhileCondemned)
}

/// Some variants look at the parent first.
fn has_yet_to_read(protocol: &Protocol, writer: &Writer) -> bool {
    step_after(protocol, writer.step) != WriterStep::Store
}

/// The packs that this session finds by the index.
fn usable(protocol: &Protocol, state: &State, writer: &Writer) -> Packs {
    match protocol.variant {
        Some(Variant::NoLookAtPack) => state.indexed & !writer.known,
        Some(Variant::ReuseOfCondemned) => state.located(),
        _ => state.located() & !writer.known,
    }
}

fn next_session(protocol: &Protocol, writer: &Writer) -> Option<u8> {
    let free = writer.sessions.iter().position(|stands| *stands == Stands::Nothing)?;
    (free < usize::from(protocol.bounds.sessions)).then_some(free as u8)
}

/// The step that follows, as the protocol or its variant orders them.
fn step_after(protocol: &Protocol, step: WriterStep) -> WriterStep {
    use WriterStep::{Announce, CheckParent, ReadCondemned, Store};
    let order = match protocol.variant {
        Some(Variant::ReadCondemnedBeforeAnnounce) => [ReadCondemned, Announce, CheckParent, Store],
        Some(Variant::ParentNotChecked) => [CheckParent, Announce, ReadCondemned, Store],
        Some(Variant::ParentCheckedBeforeCondemned) => {
            [Announce, CheckParent, ReadCondemned, Store]
        }
        _ => [Announce, ReadCondemned, CheckParent, Store],
    };
    let here = order.iter().position(|candidate| *candidate == step);
    here.map_or(order[0], |here| order[here + 1])
}

/// The first step of a session.
pub fn first_step(protocol: &Protocol) -> WriterStep {
    step_after(protocol, WriterStep::Ended)
}

/// Takes a step.
pub fn apply(protocol: &Protocol, state: &mut State, n: usize, action: WriterAction) {
    let mut writer = state.writers[n];
    let session = usize::from(writer.session);
    match action {
        WriterAction::Announce => {
            writer.sessions[session] = Stands::Announced;
            writer.step = step_after(protocol, WriterStep::Announce);
        }
        WriterAction::ReadCondemned => {
            let open = protocol.open(state);
            writer.known = match protocol.variant {
                Some(Variant::WriterIgnoresOlderGeneration) => {
                    open.last().map_or(0, |(_, set)| set)
                }
                _ => open.fold(0, |all, (_, set)| all | set),
            };
            writer.is_clean = writer.known == 0;
            writer.step = match (writer.step, protocol.variant) {
                (WriterStep::ReadCondemned, _) => step_after(protocol, WriterStep::ReadCondemned),
                (_, Some(Variant::NextAnnouncedLate | Variant::NextAnnouncedLateUnchecked)) => {
                    WriterStep::CheckCheckpoint
                }
                _ => WriterStep::CommitCheckpoint,
            };
        }
        WriterAction::CheckParent(parent) => {
            writer.parent = match parent.map(|bit| state.stands(bit)) {
                Some(Stands::Committed(refs)) => refs,
                _ => 0,
            };
            writer.step = step_after(protocol, WriterStep::CheckParent);
        }
        WriterAction::TakeOver => {
            (writer.refs, writer.step) = (writer.parent, WriterStep::Commit);
            protocol.note(state, super::SEEN_TAKEN_OVER);
        }
        WriterAction::Reuse(chunks) => {
            (writer.refs, writer.step) = (chunks, WriterStep::Commit);
            if !writer.is_clean {
                protocol.note(state, super::SEEN_REUSED_WHILE_CONDEMNED);
            }
        }
        WriterAction::PutPacks(content) => {
            let Some(pack) = state.new_pack(content) else { return };
            let taken_over = if may_take_over(protocol, &writer) { writer.parent } else { 0 };
            let stored = if content == DELTA_B { B } else { content };
            writer.refs = taken_over | stored;
            (writer.pack, writer.step) = (pack, WriterStep::IndexPacks);
            state.puts_left -= 1;
        }
        WriterAction::IndexPacks => {
            state.indexed |= pack_bit(writer.pack);
            (writer.pack, writer.step) = (NO_PACK, WriterStep::Commit);
        }
        _ => return finish(protocol, state, n, action),
    }
    state.writers[n] = writer;
}

fn finish(protocol: &Protocol, state: &mut State, n: usize, action: WriterAction) {
    let mut writer = state.writers[n];
    let session = usize::from(writer.session);
    match action {
        WriterAction::Commit => {
            if commit(&mut writer) {
                // The forget of the checkpoint that follows may come from anybody at any moment.
                writer.step = WriterStep::Ended;
                note_commit(protocol, state, &writer);
            } else {
                begin_again(protocol, &mut writer);
            }
        }
        WriterAction::AnnounceNext => {
            let Some(next) = next_session(protocol, &writer) else { return };
            writer.sessions[usize::from(next)] = Stands::Announced;
            if writer.step == WriterStep::AnnounceNextLate {
                writer.session = next;
            }
            writer.step = WriterStep::ReadCondemnedNext;
        }
        WriterAction::CommitCheckpoint => {
            let is_late = writer.step == WriterStep::Commit;
            if !commit(&mut writer) {
                begin_again(protocol, &mut writer);
            } else if is_late {
                writer.step = WriterStep::AnnounceNextLate;
            } else {
                writer.session += 1;
                writer.step = WriterStep::CheckCheckpoint;
            }
        }
        WriterAction::CheckCheckpoint => {
            let before = session_bit(n, session - 1);
            let is_kept = matches!(state.stands(before), Stands::Committed(_));
            let is_unchecked = matches!(
                protocol.variant,
                Some(Variant::NextAnnouncedLateUnchecked | Variant::CheckpointUnchecked)
            );
            writer.parent = if is_kept || is_unchecked { writer.refs } else { 0 };
            (writer.refs, writer.has_checkpoint) = (0, true);
            writer.step = WriterStep::Store;
        }
        WriterAction::ForgetCheckpoint => {
            let before = session_bit(n, session - 1);
            if let Stands::Committed(refs) = state.stands(before) {
                state.put(before, Stands::Forgotten(refs));
            }
            writer.sessions = state.writers[n].sessions;
            state.has_forgotten_early = true;
        }
        WriterAction::BeginAgain => begin_again(protocol, &mut writer),
        _ => {}
    }
    state.writers[n] = writer;
}

/// Creates the commit key; false where somebody else has.
fn commit(writer: &mut Writer) -> bool {
    let stands = &mut writer.sessions[usize::from(writer.session)];
    let is_free = matches!(stands, Stands::Announced | Stands::Withdrawn);
    if is_free {
        *stands = Stands::Committed(writer.refs);
    }
    is_free
}

/// What a process has announced that is dead is as good as closed: it takes no commit key any more, and
/// collectors wait no shorter for it.
pub fn begin_again(protocol: &Protocol, writer: &mut Writer) {
    for stands in &mut writer.sessions {
        if matches!(stands, Stands::Announced | Stands::Withdrawn) {
            *stands = Stands::Closed;
        }
    }
    let sessions = writer.sessions;
    *writer = match next_session(protocol, writer) {
        Some(session) => {
            let step = first_step(protocol);
            Writer { session, sessions, step, ..Writer::new(true) }
        }
        None => Writer { sessions, ..Writer::new(false) },
    };
}

fn note_commit(protocol: &Protocol, state: &mut State, writer: &Writer) {
    protocol.note(state, super::SEEN_COMMITTED);
    if writer.has_checkpoint {
        protocol.note(state, super::SEEN_COMMITTED_BEHIND_CHECKPOINT);
    } else if writer.session > 0 && state.seen & super::SEEN_FENCED != 0 {
        protocol.note(state, super::SEEN_COMMITTED_AFTER_FENCE);
    }
    let is_full = |content: &u8| content & B != 0;
    let has_full = state.content.iter().any(is_full);
    if writer.refs & B != 0 && !has_full {
        protocol.note(state, super::SEEN_COMMITTED_DELTA);
    }
}

/// Forgets what a writer has no use for any more.
pub fn forget_what_cannot_matter(protocol: &Protocol, writer: &mut Writer) {
    if writer.stands() == Stands::Closed {
        match writer.step {
            WriterStep::ReadCondemned | WriterStep::CheckParent | WriterStep::Store => {
                (writer.known, writer.is_clean, writer.parent) = (0, true, 0);
                (writer.step, writer.has_checkpoint) = (WriterStep::Store, false);
            }
            WriterStep::Commit | WriterStep::ReadCondemnedNext | WriterStep::CommitCheckpoint => {
                begin_again(protocol, writer);
            }
            _ => {}
        }
    }
    if matches!(writer.step, WriterStep::IndexPacks | WriterStep::Commit) {
        (writer.known, writer.is_clean, writer.parent) = (0, true, 0);
    }
    if writer.step == WriterStep::Ended {
        begin_ended(writer);
    }
}

fn begin_ended(writer: &mut Writer) {
    *writer = Writer { sessions: writer.sessions, ..Writer::new(false) };
}

/// What a session that is not closed relies on: whoever forgets it, it must be there.
pub fn relies_on(protocol: &Protocol, state: &State, n: usize) -> (Packs, Chunks) {
    let writer = &state.writers[n];
    if writer.stands() != Stands::Announced {
        return (0, 0);
    }
    let chunks = match writer.step {
        WriterStep::Store if writer.is_clean => writer.parent,
        // Nothing is relied on yet: the checkpoint is still to be looked at.
        WriterStep::ReadCondemnedNext if protocol.variant == Some(Variant::NextAnnouncedLate) => 0,
        WriterStep::IndexPacks
        | WriterStep::Commit
        | WriterStep::ReadCondemnedNext
        | WriterStep::CommitCheckpoint => writer.refs,
        _ => 0,
    };
    (pack_bit(writer.pack), chunks)
}

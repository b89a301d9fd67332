//! Compression with bounds: nothing is decoded to more than was stated beforehand.

use std::cell::RefCell;

use model::{Error, ErrorKind, Result};
use zstd_safe::{CCtx, CParameter, DCtx, ErrorCode, ResetDirective};

/// What most content is compressed with: higher levels cost more time than all else together.
pub(crate) const LEVEL_FAST: i32 = 1;
/// What text of small files, and what a machine is to execute, is compressed with: a twentieth smaller,
/// and a seventh slower.
pub(crate) const LEVEL_SOLID: i32 = 2;
/// How much of a chunk is looked at to choose its level.
const SAMPLE_BYTES: usize = 32 << 10;
/// What shrinks this much, in percent of its length, is worth the higher level: machine code. Logs and
/// tables, which shrink more, become no smaller by it, and what is compressed already shrinks less.
const WORTH_PERCENT: std::ops::Range<usize> = 34..62;
/// What deltas are encoded with; the long matches do the work.
const LEVEL_DELTA: i32 = 1;
/// Windows are no smaller than this (2^10 bytes, the least that zstd has).
const WINDOW_LOG_MIN: u32 = 10;

/// A context of zstd and a buffer, which are costly to make anew for each block.
pub(crate) struct Compressor {
    context: CCtx<'static>,
    output: Vec<u8>,
}

impl Compressor {
    /// Makes one.
    pub(crate) fn new() -> Self {
        Self { context: CCtx::create(), output: Vec::new() }
    }

    /// Chooses the level for a chunk by a look at its middle.
    pub(crate) fn level_for(&mut self, content: &[u8]) -> Result<i32> {
        let from = (content.len() / 2).saturating_sub(SAMPLE_BYTES / 2);
        let sample = content.get(from..).unwrap_or_default();
        let sample = sample.get(..SAMPLE_BYTES).unwrap_or(sample);
        let Some(compressed) = self.compress(LEVEL_FAST, sample)? else { return Ok(LEVEL_FAST) };
        let percent = compressed.len() * 100 / sample.len().max(1);
        Ok(if WORTH_PERCENT.contains(&percent) { LEVEL_SOLID } else { LEVEL_FAST })
    }

    /// Compresses; none where that does not make it shorter by more than a 64th.
    pub(crate) fn compress(&mut self, level: i32, content: &[u8]) -> Result<Option<&[u8]>> {
        let fault = |code| fault("compress", code);
        self.context.reset(ResetDirective::SessionAndParameters).map_err(fault)?;
        self.context.set_parameter(CParameter::CompressionLevel(level)).map_err(fault)?;
        self.output.clear();
        self.output.reserve(zstd_safe::compress_bound(content.len()));
        self.context.compress2(&mut self.output, content).map_err(fault)?;
        let is_shorter = self.output.len() < content.len() - content.len() / 64;
        Ok(is_shorter.then_some(&self.output[..]))
    }
}

/// Encodes content as its difference from `base`. One frame of zstd.
pub(crate) fn encode_delta(base: &[u8], content: &[u8]) -> Result<Vec<u8>> {
    let fault = |code| fault("encode delta", code);
    let total = (base.len() + content.len()).max(2);
    let window_log = (total - 1).ilog2().saturating_add(1).max(WINDOW_LOG_MIN);
    let mut context = CCtx::create();
    for parameter in [
        CParameter::CompressionLevel(LEVEL_DELTA),
        CParameter::WindowLog(window_log),
        CParameter::EnableLongDistanceMatching(true),
    ] {
        context.set_parameter(parameter).map_err(fault)?;
    }
    context.ref_prefix(base).map_err(fault)?;
    let mut output = Vec::with_capacity(zstd_safe::compress_bound(content.len()));
    context.compress2(&mut output, content).map_err(fault)?;
    output.shrink_to_fit();
    Ok(output)
}

/// Decodes the frame at the beginning of `bytes` against the base that it was encoded against; none
/// where it is no frame of exactly this length.
pub(crate) fn decode_delta(base: &[u8], bytes: &[u8], length: usize) -> Option<Vec<u8>> {
    let frame_length = zstd_safe::find_frame_compressed_size(bytes).ok()?;
    let frame = bytes.get(..frame_length)?;
    let mut context = DCtx::create();
    context.ref_prefix(base).ok()?;
    let mut output = Vec::with_capacity(length);
    context.decompress(&mut output, frame).ok()?;
    (output.len() == length).then_some(output)
}

/// Decompresses to exactly `length` bytes; none where it is anything else.
pub(crate) fn decompress(bytes: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut output = Vec::with_capacity(length);
    (decompress_into(&mut output, bytes) && output.len() == length).then_some(output)
}

/// Decompresses into the room that a buffer has; says whether that was possible.
pub(crate) fn decompress_into(buffer: &mut Vec<u8>, bytes: &[u8]) -> bool {
    thread_local! {
        static CONTEXT: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
    }
    CONTEXT.with_borrow_mut(|context| context.decompress(buffer, bytes).is_ok())
}

fn fault(action: &'static str, code: ErrorCode) -> Error {
    Error::new(ErrorKind::Internal, action, "").detail(zstd_safe::get_error_name(code))
}

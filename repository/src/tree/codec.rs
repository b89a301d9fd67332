//! Numbers and byte strings as tree nodes and spilled items hold them.
//!
//! Numbers are LEB128 in their shortest form, so that equal values have equal bytes. Readers return
//! none where the bytes are not of this form: the caller knows what it was reading and says so.

use bytes::Bytes;

/// Appends a number.
pub(crate) fn put_number(output: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        output.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    output.push(number as u8);
}

/// Appends a difference: zigzag, so that small ones are short whatever their sign.
pub(crate) fn put_signed(output: &mut Vec<u8>, number: i64) {
    put_number(output, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

/// Appends bytes behind their length.
pub(crate) fn put_bytes(output: &mut Vec<u8>, bytes: &[u8]) {
    put_number(output, bytes.len() as u64);
    output.extend_from_slice(bytes);
}

/// Appends bytes that may be absent: their length plus one, or zero.
pub(crate) fn put_optional(output: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_number(output, bytes.map_or(0, |bytes| bytes.len() as u64 + 1));
    output.extend_from_slice(bytes.unwrap_or_default());
}

/// Reads from bytes that nobody vouches for. What is returned as [`Bytes`] shares their memory.
#[derive(Debug)]
pub(crate) struct Input<'b> {
    bytes: &'b Bytes,
    at: usize,
}

impl<'b> Input<'b> {
    /// Starts at the first byte.
    pub(crate) fn new(bytes: &'b Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    /// Says whether all was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Returns how many bytes are left: no count of things that are read from here can be larger.
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// Takes the next bytes.
    pub(crate) fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// Takes the next bytes as an array.
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// Takes one byte.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    /// Takes the next bytes without copying them.
    pub(crate) fn shared(&mut self, length: usize) -> Option<Bytes> {
        let start = self.at;
        self.take(length)?;
        Some(self.bytes.slice(start..self.at))
    }

    /// Takes a number in its shortest form.
    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            let is_last = byte & 0x80 == 0;
            if shift == 63 && bits > 1 || is_last && bits == 0 && shift > 0 {
                return None;
            }
            number |= bits << shift;
            if is_last {
                return Some(number);
            }
        }
        None
    }

    /// Takes a number that counts bytes or things in memory.
    pub(crate) fn length(&mut self) -> Option<usize> {
        self.number()?.try_into().ok()
    }

    /// Takes what [`put_signed`] wrote.
    pub(crate) fn signed(&mut self) -> Option<i64> {
        self.number().map(|n| (n >> 1).cast_signed() ^ -((n & 1).cast_signed()))
    }

    /// Takes what [`put_bytes`] wrote.
    pub(crate) fn bytes(&mut self) -> Option<Bytes> {
        let length = self.length()?;
        self.shared(length)
    }

    /// Takes what [`put_optional`] wrote.
    pub(crate) fn optional(&mut self) -> Option<Option<Bytes>> {
        match self.length()? {
            0 => Some(None),
            length => self.shared(length - 1).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &'static [u8]) -> Option<u64> {
        Input::new(&Bytes::from_static(bytes)).number()
    }

    #[test]
    fn numbers_are_read_in_their_shortest_form_only() {
        for expected in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut output = Vec::new();
            put_number(&mut output, expected);
            let bytes = Bytes::from(output);
            let mut input = Input::new(&bytes);
            assert_eq!((input.number(), input.is_empty()), (Some(expected), true));
        }
        assert_eq!(number(b"\xac\x02"), Some(300));
        for refused in [&b""[..], b"\x80", b"\x80\x00", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"]
        {
            assert_eq!(Input::new(&Bytes::copy_from_slice(refused)).number(), None, "{refused:?}");
        }
    }

    #[test]
    fn differences_and_strings_survive() {
        let mut output = Vec::new();
        for n in [0, -1, 1, i64::MIN, i64::MAX] {
            put_signed(&mut output, n);
        }
        put_optional(&mut output, None);
        put_optional(&mut output, Some(b""));
        put_bytes(&mut output, b"xy");
        let bytes = Bytes::from(output);
        let mut input = Input::new(&bytes);
        for n in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(input.signed(), Some(n));
        }
        assert_eq!(input.optional(), Some(None));
        assert_eq!(input.optional(), Some(Some(Bytes::new())));
        assert_eq!(input.bytes(), Some(Bytes::from_static(b"xy")));
        assert_eq!((input.bytes(), input.take(usize::MAX)), (None, None));
    }
}

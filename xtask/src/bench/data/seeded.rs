//! Random numbers that are the same everywhere: BLAKE3's output stream for a label.

/// A stream of random bytes.
pub struct Seeded {
    reader: blake3::OutputReader,
    buffer: [u8; Self::BUFFER_BYTES],
    used: usize,
}

impl Seeded {
    const BUFFER_BYTES: usize = 4096;

    /// The stream of a label.
    pub fn new(label: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"lifeboat bench data 1\0").update(label.as_bytes());
        let reader = hasher.finalize_xof();
        Self { reader, buffer: [0; Self::BUFFER_BYTES], used: Self::BUFFER_BYTES }
    }

    /// The next eight bytes as a number.
    pub fn next(&mut self) -> u64 {
        if self.used + 8 > Self::BUFFER_BYTES {
            self.reader.fill(&mut self.buffer);
            self.used = 0;
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.buffer[self.used..self.used + 8]);
        self.used += 8;
        u64::from_le_bytes(bytes)
    }

    /// A number below a bound, which is not zero. The bias is far below what data could show.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Fills a buffer straight from the stream.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        self.reader.fill(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_streams_of_their_own() {
        let draw = |label| {
            let mut seeded = Seeded::new(label);
            (0..1000).map(|_| seeded.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw("a"), draw("a"));
        assert_ne!(draw("a"), draw("b"));
    }
}

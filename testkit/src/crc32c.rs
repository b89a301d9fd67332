//! CRC-32C, bit by bit: slow, and independent of every implementation under test.

use model::StripeChecksums;

/// Returns the CRC-32C of bytes.
pub fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL_REVERSED: u32 = 0x82f6_3b78;
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (POLYNOMIAL_REVERSED & (crc & 1).wrapping_neg())
        })
    })
}

/// Returns the checksums of each stripe of an extent.
pub fn stripe_checksums(bytes: &[u8], stripe_bytes: u32) -> StripeChecksums {
    let crc32c = bytes.chunks(stripe_bytes.max(1) as usize).map(crc32c).collect();
    StripeChecksums { stripe_bytes, crc32c }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the catalogue of CRC algorithms, and RFC 3720 B.4.
    #[test]
    fn golden_checksums() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(stripe_checksums(b"123456789", 4).crc32c.len(), 3);
    }
}

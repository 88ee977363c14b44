//! Hashes as the lower-case hexadecimal strings in manifests and requests.

use sha2::{Digest, Sha256};

/// `bytes` in lower-case hexadecimal, two characters a byte.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of `bytes` in lower-case hexadecimal (64 characters).
pub fn sha256_hex(bytes: &[u8]) -> String {
    to_hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digest() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn every_byte_has_two_characters() {
        assert_eq!(to_hex(&[0, 0x0a, 0xa0, 0xff]), "000aa0ff");
        assert_eq!(to_hex(&[]), "");
    }
}

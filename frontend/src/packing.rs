//! Image tokens as a short text for an address: `count.bits.digits`, the bits of all tokens in sequence, six in each digit of the
//! URL-safe base64 alphabet. Count and bits reveal a text that was cut.

use dalle_shared::ImageToken;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Most tokens of a text: a grid of 128×128, sixteen times the paper's.
const MOST: usize = 1 << 14;

/// The text of these tokens, with as many bits for each as the largest needs.
pub fn pack(tokens: &[ImageToken]) -> String {
    let bits = tokens.iter().map(|token| u16::BITS - token.0.leading_zeros()).fold(1, u32::max);
    let mut text = format!("{}.{bits}.", tokens.len());
    let mut digit = |six: u32| text.push(char::from(DIGITS[(six & 63) as usize]));
    // Only the lowest `held` bits of the buffer are still to be written.
    let (mut buffer, mut held) = (0, 0);
    for token in tokens {
        buffer = buffer << bits | u32::from(token.0);
        held += bits;
        while held >= 6 {
            held -= 6;
            digit(buffer >> held);
        }
    }
    if held > 0 {
        digit(buffer << (6 - held));
    }
    text
}

/// The tokens of a text; None if it is damaged.
pub fn unpack(text: &str) -> Option<Vec<ImageToken>> {
    let mut parts = text.splitn(3, '.');
    let (count, bits): (usize, usize) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let digits = parts.next()?.as_bytes();
    if count > MOST || !(1..=16).contains(&bits) || digits.len() != (count * bits).div_ceil(6) {
        return None;
    }
    let mut tokens = Vec::with_capacity(count);
    let (mut buffer, mut held) = (0, 0);
    for digit in digits {
        let six = DIGITS.iter().position(|known| known == digit)?;
        buffer = (buffer << 6 | six) & 0x3f_ffff;
        held += 6;
        while held >= bits && tokens.len() < count {
            held -= bits;
            tokens.push(ImageToken((buffer >> held & ((1 << bits) - 1)) as u16));
        }
    }
    Some(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(ids: impl IntoIterator<Item = u16>) -> Vec<ImageToken> {
        ids.into_iter().map(ImageToken).collect()
    }

    #[test]
    fn every_width_comes_back() {
        for bits in 1..=16 {
            let most = u16::MAX >> (16 - bits);
            for count in [0, 1, 2, 7, 240] {
                let tokens =
                    tokens((0..count).map(|index: u16| most - index.wrapping_mul(40_503) % most.max(1)));
                let text = pack(&tokens);
                assert_eq!(unpack(&text).as_deref(), Some(&tokens[..]), "{text}");
                assert!(text.bytes().all(|byte| byte == b'.' || DIGITS.contains(&byte)), "{text}");
            }
        }
        // Eight bits are base64 itself (RFC 4648, section 5).
        assert_eq!(pack(&tokens([0xfb, 0xff, 0xbf, 0x00, 0x10, 0x83])), "6.8.-_-_ABCD");
    }

    #[test]
    fn half_of_the_papers_grid_is_shorter_than_its_bytes_in_base64() {
        let half = tokens((0..512).map(|index| index * 16));
        assert!(pack(&half).len() < 512 * 2 * 4 / 3, "{}", pack(&half).len());
    }

    #[test]
    fn what_was_cut_or_changed_is_refused() {
        let text = pack(&tokens(0..100));
        for length in 0..text.len() {
            assert_eq!(unpack(&text[..length]), None, "{length}");
        }
        for damaged in
            ["", "x", "1", "1.4", "1.4.", "1.0.", "0.0.", "1.17.AAA", "2.6.A=", "-1.6.", "99999999.1.A"]
        {
            assert_eq!(unpack(damaged), None, "{damaged}");
        }
        assert_eq!(unpack(&format!("{text}A")), None);
        assert_eq!(unpack("0.1."), Some(Vec::new()));
    }
}

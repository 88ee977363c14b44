//! Text files as editors and programs write them: UTF-8 and UTF-16, with and without a byte order mark, with any line ends.

use dalle_shared::{clean_caption, is_blank_caption};

/// The text of a file.
///
/// # Errors
/// It is in another encoding; the message says what to do.
pub fn decode(bytes: &[u8]) -> Result<String, String> {
    let text = match bytes {
        [0xEF, 0xBB, 0xBF, rest @ ..] => utf8(rest)?,
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        _ => match unmarked_utf16(bytes) {
            Some(order) => utf16(bytes, order)?,
            None => utf8(bytes)?,
        },
    };
    Ok(text)
}

/// Byte order of UTF-16 without a mark: half of its bytes are zero, if it is in a Western language.
fn unmarked_utf16(bytes: &[u8]) -> Option<fn([u8; 2]) -> u16> {
    let pairs = bytes.len() / 2;
    let zeros = |place: usize| bytes.chunks_exact(2).filter(|pair| pair[place] == 0).count();
    if pairs == 0 || !bytes.len().is_multiple_of(2) {
        return None;
    }
    match (zeros(0), zeros(1)) {
        (0, low) if low * 4 >= pairs * 3 => Some(u16::from_le_bytes),
        (high, 0) if high * 4 >= pairs * 3 => Some(u16::from_be_bytes),
        _ => None,
    }
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        format!("is not UTF-8 text (byte {:#04x} at {place}); save it as UTF-8", bytes[place])
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, String> {
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
    match String::from_utf16(&units) {
        Ok(text) if bytes.len().is_multiple_of(2) => Ok(text),
        _ => Err("is damaged UTF-16 text; save it as UTF-8".to_owned()),
    }
}

/// The lines of a text, however they end, without those that show nothing. Invisible characters that would change a caption's
/// tokens are removed.
pub fn captions(text: &str) -> Vec<String> {
    let lines = text.split(['\n', '\r', '\u{0b}', '\u{0c}', '\u{85}', '\u{2028}', '\u{2029}']);
    lines.filter(|line| !is_blank_caption(line)).map(clean_caption).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn utf16_bytes(text: &str, mark: bool, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let mark = mark.then_some(0xFEFF);
        mark.into_iter().chain(text.encode_utf16()).flat_map(unit).collect()
    }

    #[test]
    fn captions_are_the_same_in_every_encoding_and_with_all_line_ends() {
        let expected = ["a green apple", "une pomme"];
        for text in [
            "a green apple\nune pomme\n",
            "a green apple\r\nune pomme",
            "a green apple\rune pomme\r",
            " a green apple \n\n\u{feff}\n\u{200b}\nune pomme\0\0\n",
            "a green\u{1} apple\u{2028}une pomme",
        ] {
            for bytes in [
                text.as_bytes().to_vec(),
                [b"\xEF\xBB\xBF", text.as_bytes()].concat(),
                utf16_bytes(text, true, u16::to_le_bytes),
                utf16_bytes(text, true, u16::to_be_bytes),
            ] {
                assert_eq!(captions(&decode(&bytes).unwrap()), expected, "{text:?}");
            }
        }
        let plain = "a green apple\nune pomme\n";
        for unit in [u16::to_le_bytes, u16::to_be_bytes] {
            assert_eq!(captions(&decode(&utf16_bytes(plain, false, unit)).unwrap()), expected);
        }
        assert_eq!(captions(&decode("猫\r\nкот".as_bytes()).unwrap()), ["猫", "кот"]);
    }

    #[test]
    fn a_text_that_shows_nothing_holds_no_caption() {
        for blank in
            [b"".as_slice(), b"\xEF\xBB\xBF", b"\xFF\xFE", b" \r\n\t", b"\0\0\0", "\u{200b}".as_bytes()]
        {
            assert_eq!(captions(&decode(blank).unwrap()), Vec::<String>::new(), "{blank:?}");
        }
    }

    #[test]
    fn other_encodings_are_refused_with_what_to_do() {
        for bytes in [b"caf\xe9".as_slice(), b"\xFF\xFEa", b"\xFF\xFE\x00\xD8"] {
            assert!(decode(bytes).unwrap_err().ends_with("save it as UTF-8"), "{bytes:?}");
        }
    }
}

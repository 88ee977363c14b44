//! A caption as tokens, and the byte-level alphabet in which tokenizer files write them.

use crate::TextToken;

/// A caption as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// Ids, at most the requested number.
    pub ids: Vec<TextToken>,
    /// Text of each id for display: the piece of the lower-cased caption, or its bytes in hexadecimal if they are not valid UTF-8.
    pub pieces: Vec<String>,
    /// Number of ids that were truncated because the caption was too long.
    pub cut: usize,
}

/// A malformed tokenizer file, or text that cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// Not a `tokenizer.json` of this kind.
    #[error("tokenizer.json is not a byte-level BPE tokenizer ({0}); train one with `dalle tokenizer train`")]
    Malformed(String),
    /// The library could not encode or decode.
    #[error("the caption could not be encoded: {0}")]
    Encode(String),
}

/// Text of a token of the byte-level alphabet, for display.
pub fn show(token: &str) -> String {
    let bytes: Vec<u8> = token.chars().filter_map(byte_of).collect();
    match std::str::from_utf8(&bytes) {
        Ok(text) => text.trim_start().to_owned(),
        Err(_) => bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(" "),
    }
}

/// The byte of a character of GPT-2's byte-level alphabet, in which printable bytes are themselves and the 68 others are, in
/// order, U+0100 and up.
pub fn byte_of(c: char) -> Option<u8> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(c) {
        code @ 0x100.. => {
            let index = usize::try_from(code - 0x100).ok()?;
            (0..=u8::MAX).filter(|byte| !printable(byte)).nth(index)
        }
        code => u8::try_from(code).ok().filter(printable),
    }
}

#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part; a test fails by panicking")]
//! Ten thousand varied captions, the same in every run. `fixtures/tokenizer/make.py` generates the same captions, encodes them
//! with Python's `tokenizers`, and writes a digest of each hundred.

use std::fmt::Write;

/// Captions per digest.
pub const BLOCK: usize = 100;
/// A `tokenizer.json` whose vocabulary was trained on these captions.
pub const TOKENIZER: &str = include_str!("../fixtures/tokenizer/tokenizer.json");
/// SHA-256 of each block's ids, one per line.
pub const DIGESTS: &str = include_str!("../fixtures/tokenizer/digests.txt");

const COUNT: usize = 10_000;
/// Minimum length of the longest caption in bytes.
const LONG: usize = 1 << 16;
/// Lists of pieces that captions are composed of; those of the first list are separators.
const PARTS: &str = include_str!("../fixtures/tokenizer/parts.json");

/// The captions. The last has at least 64 KiB.
pub fn captions() -> Vec<String> {
    let parts: Vec<Vec<String>> = serde_json::from_str(PARTS).unwrap();
    let mut random = SplitMix(2021);
    let mut captions = vec![String::new(); COUNT];
    let (long, short) = captions.split_last_mut().unwrap();
    for caption in short {
        for _ in 0..1 + random.below(12) {
            append(caption, &parts, &mut random);
        }
    }
    while long.len() < LONG {
        append(long, &parts, &mut random);
    }
    captions
}

/// The text that a block's digest is computed from: a line of ids for each caption.
pub fn lines(ids: &[Vec<u32>]) -> String {
    let mut lines = String::new();
    for ids in ids {
        for id in ids {
            write!(lines, "{id} ").unwrap();
        }
        lines.push('\n');
    }
    lines
}

fn append(caption: &mut String, parts: &[Vec<String>], random: &mut SplitMix) {
    match random.below(parts.len() + 1) {
        // Any character, a control character, or a piece from one of the lists.
        0 => caption.extend(char::from_u32(random.below(0x11_0000) as u32)),
        1 => caption.extend(char::from_u32(random.below(0xA0) as u32)),
        list => caption.push_str(&parts[list - 1][random.below(parts[list - 1].len())]),
    }
    caption.push_str(&parts[0][random.below(parts[0].len())]);
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

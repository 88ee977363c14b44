//! Background colours of drawings, and their names in captions.

use dalle_shared::sha256_hex;

/// A background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Background {
    /// Its name in captions.
    pub name: &'static str,
    /// A more general name that people also use.
    pub also: Option<&'static str>,
    /// sRGB.
    pub colour: [u8; 3],
}

/// The default background; captions do not mention it.
pub const WHITE: Background = Background { name: "white", also: None, colour: [255, 255, 255] };

/// The other backgrounds: each light or dark enough for drawings to stand out, with a plain name.
pub const PALETTE: [Background; 10] = [
    Background { name: "light blue", also: Some("blue"), colour: [173, 216, 240] },
    Background { name: "light green", also: Some("green"), colour: [178, 226, 178] },
    Background { name: "pale yellow", also: Some("yellow"), colour: [250, 240, 180] },
    Background { name: "pink", also: None, colour: [250, 200, 214] },
    Background { name: "lavender", also: Some("light purple"), colour: [214, 204, 242] },
    Background { name: "beige", also: None, colour: [236, 224, 200] },
    Background { name: "light grey", also: Some("grey"), colour: [212, 212, 212] },
    Background { name: "teal", also: None, colour: [0, 124, 124] },
    Background { name: "navy blue", also: Some("dark blue"), colour: [24, 36, 84] },
    Background { name: "black", also: None, colour: [0, 0, 0] },
];

/// The palette in the order in which the image called `key` tries it; a function of the seed and the key.
pub fn ranked(seed: u64, key: &str) -> [Background; PALETTE.len()] {
    let mut ranked = PALETTE;
    ranked
        .sort_by_cached_key(|background| sha256_hex(format!("{seed} {key} {}", background.name).as_bytes()));
    ranked
}

//! Captions as people and programs send them.

/// Whether a character is invisible but not white space: zero-width ones, the soft hyphen, marks of direction, and variation selectors.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
    )
}

/// A caption without byte order marks and control characters, which are invisible but would change its tokens. Line breaks and tabs
/// become spaces.
pub fn clean_caption(caption: &str) -> String {
    let kept = caption.chars().filter_map(|c| match c {
        '\t' | '\n' | '\r' => Some(' '),
        '\u{feff}' => None,
        c if c.is_control() => None,
        c => Some(c),
    });
    kept.collect::<String>().trim().to_owned()
}

/// Whether a caption has no visible character.
pub fn is_blank_caption(caption: &str) -> bool {
    caption.chars().all(|c| c.is_whitespace() || c.is_control() || is_invisible(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_removed_and_visible_ones_stay() {
        for (given, expected) in [
            ("\u{feff}a green apple\r\n", "a green apple"),
            ("a white\0 apple\0\0", "a white apple"),
            ("a\rb\tc\nd", "a b c d"),
            ("naïve café, 猫, قطة", "naïve café, 猫, قطة"),
            // A family: its parts are joined by zero-width joiners.
            ("👨\u{200d}👩\u{200d}👧", "👨\u{200d}👩\u{200d}👧"),
        ] {
            assert_eq!(clean_caption(given), expected, "{given:?}");
        }
    }

    #[test]
    fn a_caption_without_a_visible_character_is_blank() {
        for blank in ["", " \t\n", "\u{feff}", "\0", "\u{200b}\u{200b}", "\u{3000}", "\0\u{202e}", "\u{fe0f}"]
        {
            assert!(is_blank_caption(blank), "{blank:?}");
        }
        for visible in [".", "猫", "👨\u{200d}👩"] {
            assert!(!is_blank_caption(visible), "{visible:?}");
        }
    }
}

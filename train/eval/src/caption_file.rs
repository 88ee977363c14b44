//! A file of captions: one per line. Blank lines and lines that begin with `#` are ignored.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use dalle_native::image_file::read_regular_file;

/// Most bytes of a file: more than the largest number of long captions.
const MAX_BYTES: u64 = 16 << 20;
/// Most captions in a file.
pub const MAX_CAPTIONS: usize = 10_000;

/// Reads the captions of a file, in its order.
///
/// # Errors
/// The file cannot be read, is not UTF-8, has no captions or too many, or has a caption twice.
pub fn read(path: &Path) -> Result<Vec<String>> {
    let name = || format!("the captions {}", path.display());
    let bytes = read_regular_file(path, MAX_BYTES).with_context(|| format!("cannot read {}", name()))?;
    let text = String::from_utf8(bytes).with_context(|| format!("{}: expected UTF-8", name()))?;
    parse(&text).with_context(|| path.display().to_string())
}

/// The captions of a file's text.
///
/// # Errors
/// It has no captions or too many, or has a caption twice.
pub fn parse(text: &str) -> Result<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut captions = Vec::new();
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let caption = line.trim();
        if caption.is_empty() || caption.starts_with('#') {
            continue;
        }
        ensure!(
            seen.insert(caption),
            "line {number}: the caption “{caption}” is in the file twice; remove one"
        );
        captions.push(caption.to_owned());
    }
    ensure!(!captions.is_empty(), "expected one caption per line, got none");
    ensure!(
        captions.len() <= MAX_CAPTIONS,
        "expected at most {MAX_CAPTIONS} captions, got {}",
        captions.len()
    );
    Ok(captions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_lines_without_comments() {
        let text = "\u{feff}# people type these\r\na dog\r\n\r\n  two red apples \n#c\nhouse";
        assert_eq!(parse(text).unwrap(), ["a dog", "two red apples", "house"]);
        let twice = format!("{:#}", parse("a dog\n\na dog").unwrap_err());
        assert!(twice.contains("line 3") && twice.contains("“a dog”"), "{twice}");
        assert!(parse("# nothing\n").is_err() && parse("").is_err());
        assert!(parse(&(0..=MAX_CAPTIONS).map(|n| format!("{n}\n")).collect::<String>()).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn devices_and_other_text_than_utf8_are_refused() {
        let device = format!("{:#}", read(Path::new("/dev/zero")).unwrap_err());
        assert!(device.contains("/dev/zero"), "{device}");
        let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/images/dvae-1.png");
        let binary = format!("{:#}", read(&image).unwrap_err());
        assert!(binary.contains("expected UTF-8"), "{binary}");
    }

    #[test]
    fn the_shipped_captions_are_sixty() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/captions/ordinary.txt");
        assert_eq!(read(&path).unwrap().len(), 60);
    }
}

//! A folder of images with captions as a source.
//!
//! The captions of `cat.jpg` are in `cat.txt` (one a line, the first is the main one), or in `captions.jsonl` at the top of
//! the folder: `{"file": "cat.jpg", "caption": "a cat", "tags": ["pet"]}` on each line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dalle_data::{Captions, DataError, Reason, SourceInfo, read_regular_file};
use serde::Deserialize;

use crate::render::Art;
use crate::source::{Input, LeftOut, RawExample, Source};

/// Name of the list of captions.
const LIST: &str = "captions.jsonl";

/// Most bytes of the captions beside an image.
const MAX_CAPTIONS: u64 = 1 << 20;
/// Most bytes of the list of captions: some ten million lines.
const MAX_LIST: u64 = 1 << 30;

/// Endings of image files.
const IMAGES: [&str; 5] = ["png", "jpg", "jpeg", "webp", "svg"];

/// A folder of images.
pub struct ImageFolder {
    /// The folder; those in it are read too.
    pub root: PathBuf,
    /// SPDX licence of the images.
    pub license: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    file: String,
    caption: String,
    #[serde(default)]
    tags: Vec<String>,
}

impl Source for ImageFolder {
    fn info(&self) -> SourceInfo {
        SourceInfo { name: "images".to_owned(), license: self.license.clone(), ..SourceInfo::default() }
    }

    fn inputs(&self) -> Vec<Input> {
        vec![Input { option: "images", path: self.root.clone(), everything: true }]
    }

    fn examples(&self) -> Result<Box<dyn Iterator<Item = Result<RawExample, LeftOut>> + '_>, DataError> {
        let mut listed = read_list(&self.root.join(LIST))?;
        let mut files = Vec::new();
        walk(&self.root, &mut files)?;
        files.sort();
        let mut images = Vec::new();
        for path in files {
            let name = path.strip_prefix(&self.root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            let line = if matches!(kind(&path), Kind::Image) { listed.remove(&name) } else { None };
            images.push((name, path, line));
        }
        let missing = listed.into_keys().map(|name| {
            let message = format!(
                "{LIST} has a caption for it; expected an image of this name, such as cats/tabby.jpg"
            );
            Err(LeftOut::unusable(Reason::NotAPicture, name, message))
        });
        let examples = images.into_iter().filter_map(|(name, path, line)| example(name, path, line));
        Ok(Box::new(examples.chain(missing)))
    }
}

/// The image in a file; none for a file of captions.
fn example(name: String, path: PathBuf, line: Option<Line>) -> Option<Result<RawExample, LeftOut>> {
    match kind(&path) {
        Kind::Captions => return None,
        Kind::Other => {
            let message = format!("expected one of the endings {}", IMAGES.join(", "));
            return Some(Err(LeftOut::unusable(Reason::NotAPicture, name, message)));
        }
        Kind::Image => {}
    }
    let captions = match (line, beside(&path)) {
        (Some(line), _) => captions(&[line.caption], line.tags),
        (None, Ok(Some(lines))) => captions(&lines, Vec::new()),
        (None, Ok(None)) => None,
        (None, Err(message)) => {
            return Some(Err(LeftOut::unusable(Reason::UnreadableCaption, name, message)));
        }
    };
    let Some(captions) = captions else {
        let message = format!("expected a .txt file of the same name, or a line in {LIST}, with a caption");
        return Some(Err(LeftOut::unusable(Reason::NoCaption, name, message)));
    };
    let stem = Path::new(&name).with_extension("").to_string_lossy().into_owned();
    Some(Ok(RawExample::new(stem, name, Art::File(path), captions)))
}

enum Kind {
    Image,
    Captions,
    Other,
}

fn kind(path: &Path) -> Kind {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    match ending.as_str() {
        "txt" | "jsonl" => Kind::Captions,
        ending if IMAGES.contains(&ending) => Kind::Image,
        _ => Kind::Other,
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    for entry in std::fs::read_dir(folder).map_err(DataError::io("listing", folder))? {
        let entry = entry.map_err(DataError::io("listing", folder))?;
        let kind = entry.file_type().map_err(DataError::io("listing", folder))?;
        if kind.is_dir() {
            walk(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// The lines of `captions.jsonl` by file name; empty if there is no such list.
fn read_list(path: &Path) -> Result<BTreeMap<String, Line>, DataError> {
    let mut lines = BTreeMap::new();
    if !path.exists() {
        return Ok(lines);
    }
    let bytes = read_regular_file(path, MAX_LIST)
        .map_err(|error| DataError::io("reading", path)(std::io::Error::other(error)))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| DataError::malformed(path, "expected UTF-8 text; save it as UTF-8"))?;
    for (number, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let line: Line = serde_json::from_str(text).map_err(|error| {
            let expected = r#"{"file": "cat.jpg", "caption": "a cat", "tags": ["pet"]}"#;
            DataError::malformed(path, format!("line {}: expected {expected}, got: {error}", number + 1))
        })?;
        if let Some(earlier) = lines.insert(line.file.clone(), line) {
            return Err(DataError::malformed(path, format!("`{}` is listed twice", earlier.file)));
        }
    }
    Ok(lines)
}

/// The lines of the `.txt` file beside an image.
fn beside(image: &Path) -> Result<Option<Vec<String>>, String> {
    let path = image.with_extension("txt");
    if !path.exists() {
        return Ok(None);
    }
    let bytes = read_regular_file(&path, MAX_CAPTIONS).map_err(|error| format!("its .txt file: {error}"))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| "its .txt file is not UTF-8 text; save it as UTF-8".to_owned())?;
    Ok(Some(text.lines().map(str::to_owned).collect()))
}

/// The first caption is the label, the others are alternatives. None if there is no text.
fn captions(lines: &[String], tags: Vec<String>) -> Option<Captions> {
    let mut lines = lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
    let label = lines.next()?.to_owned();
    let mut templates = vec!["{label}".to_owned()];
    if tags.len() >= 2 {
        templates.push("{label}, {tag}, {tag}".to_owned());
    }
    let alternatives = lines.map(str::to_owned).collect();
    Some(Captions { label, tags, templates, alternatives, ..Captions::default() })
}

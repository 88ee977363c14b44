//! A folder of pictures with captions as a source.
//!
//! A caption lies beside its picture (`cat.jpg`, `cat.txt`: each line one caption, the first the main one), or in
//! `captions.jsonl` at the top of the folder: `{"file": "cat.jpg", "caption": "a cat", "tags": ["pet"]}` on each line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use dalle_data::{
    Captions, DataError, Reason, SourceSummary, Split, concept_of, read_regular_file, sanitise_key,
};

use super::render::Art;
use super::source::{Drawing, Source};

/// Name of the list of captions.
const LIST: &str = "captions.jsonl";

/// Most bytes of the captions beside an image.
const MAX_CAPTIONS: u64 = 1 << 20;
/// Most bytes of the list of captions: of some ten million images.
const MAX_LIST: u64 = 1 << 30;

/// Endings of files that are pictures.
const PICTURES: [&str; 5] = ["png", "jpg", "jpeg", "webp", "svg"];

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    file: String,
    caption: String,
    #[serde(default)]
    tags: Vec<String>,
}

/// Reads the pictures under `root`.
///
/// # Errors
/// The folder or its `captions.jsonl` cannot be read.
pub fn read(root: &Path, license: &str, val_share: f64) -> Result<Source, DataError> {
    let mut listed = read_list(&root.join(LIST))?;
    let mut files = Vec::new();
    walk(root, &mut files)?;
    files.sort();
    let mut source = Source::new(SourceSummary::new("images", "", license, None));
    for path in files {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        match kind(&path) {
            Kind::Captions => continue,
            Kind::Other => {
                let message = format!("expected one of the endings {}", PICTURES.join(", "));
                source.fail(Reason::NotAPicture, name, message);
                continue;
            }
            Kind::Picture => {}
        }
        let captions = match (listed.remove(&name), beside(&path)) {
            (Some(line), _) => captions(&[line.caption], line.tags),
            (None, Ok(Some(lines))) => captions(&lines, Vec::new()),
            (None, Ok(None)) => None,
            (None, Err(message)) => {
                source.fail(Reason::UnreadableCaption, name, message);
                continue;
            }
        };
        let Some(captions) = captions else {
            let message =
                format!("expected a .txt file of the same name, or a line in {LIST}, with a caption");
            source.fail(Reason::NoCaption, name, message);
            continue;
        };
        let stem = Path::new(&name).with_extension("");
        let concept = concept_of(&captions.label);
        source.drawings.push(Drawing {
            key: sanitise_key(&stem.to_string_lossy()),
            split: Split::of(&concept, val_share),
            concept,
            captions,
            hexcode: None,
            license: license.to_owned(),
            source: name,
            art: Art::File(path),
        });
    }
    for name in listed.into_keys() {
        let message =
            format!("{LIST} has a caption for it; expected a picture of this name, such as cats/tabby.jpg");
        source.fail(Reason::NotAPicture, name, message);
    }
    Ok(source)
}

enum Kind {
    Picture,
    Captions,
    Other,
}

fn kind(path: &Path) -> Kind {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    match ending.as_str() {
        "txt" | "jsonl" => Kind::Captions,
        ending if PICTURES.contains(&ending) => Kind::Picture,
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

/// The lines of `captions.jsonl` by file name; empty where there is no such list.
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

/// The caption lines of the `.txt` file beside a picture.
fn beside(picture: &Path) -> Result<Option<Vec<String>>, String> {
    let path = picture.with_extension("txt");
    if !path.exists() {
        return Ok(None);
    }
    let bytes = read_regular_file(&path, MAX_CAPTIONS).map_err(|error| format!("its .txt file: {error}"))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| "its .txt file is not UTF-8 text; save it as UTF-8".to_owned())?;
    Ok(Some(text.lines().map(str::to_owned).collect()))
}

/// The first caption is the label, the others are alternatives. None where there is no text.
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

//! Lists of captions: JSON lines, JSON, tables of comma- or tab-separated values.
//!
//! | form | example |
//! |---|---|
//! | JSON lines: ours, Hugging Face's `metadata.jsonl` | `{"file_name": "cat.jpg", "text": "a cat"}` on each line |
//! | a table with or without a heading: `metadata.csv`, `captions.txt` | `cat.jpg,a cat` |
//! | JSON: COCO's annotations | `{"images": [{"id": 1, "file_name": "cat.jpg"}], "annotations": [{"image_id": 1, "caption": "a cat"}]}` |
//! | JSON: a list, or an object by name | `[{"image": "cat.jpg", "caption": "a cat"}]`, `{"cat.jpg": "a cat"}` |
//!
//! Keys that are not known are ignored.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// Keys of the image's file.
const FILE: [&str; 12] = [
    "file_name",
    "file",
    "filename",
    "image_path",
    "image_file",
    "image_name",
    "image",
    "img_path",
    "filepath",
    "path",
    "img",
    "name",
];
/// Keys of its captions, the most exact first. A number may follow: `caption_2`.
const CAPTION: [&str; 9] =
    ["caption", "captions", "text", "texts", "sentences", "prompt", "description", "comment", "raw"];

/// An image with captions in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The image's name as the list has it.
    pub file: String,
    /// Its captions.
    pub captions: Vec<String>,
    /// Words that belong to it.
    pub tags: Vec<String>,
}

/// What a file holds as a list of captions.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Its lines that can be used.
    pub lines: Vec<Line>,
    /// What is wrong with others.
    pub faults: Vec<String>,
}

/// Whether the ending of a file name is that of a list.
pub fn is_list(ending: &str) -> bool {
    matches!(ending, "jsonl" | "ndjson" | "json" | "csv" | "tsv")
}

/// Whether a file by its name can be nothing but a list of captions, so that it is a fault if it holds none.
pub fn must_be_list(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name).to_lowercase();
    let stem = file.rsplit_once('.').map_or(file.as_str(), |(stem, _)| stem);
    stem.contains("captions") || stem == "metadata"
}

/// Reads the list in a text file. None if it holds nothing that looks like one.
///
/// # Errors
/// It cannot be parsed.
pub fn read(ending: &str, text: &str, is_image: impl Fn(&str) -> bool) -> Result<Option<List>, String> {
    match ending {
        "jsonl" | "ndjson" => Ok(lines(text)),
        "json" => json(text, is_image),
        "tsv" => Ok(table(text, Some(b'\t'), is_image)),
        "csv" => Ok(table(text, None, is_image)),
        _ => Ok(table(text, None, is_image).filter(|list| !list.lines.is_empty())),
    }
}

/// The captions in a JSON object beside an image, such as img2dataset writes.
pub fn beside(text: &str) -> Vec<String> {
    serde_json::from_str::<Map<String, Value>>(text).map_or_else(|_| Vec::new(), |object| captions(&object))
}

/// The form that a line should have.
pub const EXPECTED: &str = r#"expected {"file_name": "cat.jpg", "text": "a cat"}"#;

fn lines(text: &str) -> Option<List> {
    let mut list = List::default();
    let numbered = text.split(['\n', '\r']).zip(1..).filter(|(line, _)| !line.trim().is_empty());
    for (line, number) in numbered {
        match serde_json::from_str::<Map<String, Value>>(line) {
            Ok(object) => match line_of(&object) {
                Some(line) => list.lines.push(line),
                None => list.faults.push(format!("line {number}: {EXPECTED}, got {}", short(line))),
            },
            Err(error) => list.faults.push(format!("line {number}: {EXPECTED}, got: {error}")),
        }
    }
    (!list.lines.is_empty() || !list.faults.is_empty()).then_some(list)
}

/// The beginning of a long text, for messages.
fn short(text: &str) -> String {
    const SHOWN: usize = 100;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn line_of(object: &Map<String, Value>) -> Option<Line> {
    let file = file(object)?;
    let tags = match object.get("tags") {
        Some(Value::Array(tags)) => tags.iter().filter_map(|tag| Some(tag.as_str()?.to_owned())).collect(),
        _ => Vec::new(),
    };
    // An object without any key of captions is no line of a list; one with an empty caption is.
    object.keys().any(|key| rank(key).is_some()).then(|| Line { file, captions: captions(object), tags })
}

fn file(object: &Map<String, Value>) -> Option<String> {
    FILE.into_iter().find_map(|key| match object.get(key)? {
        Value::String(file) => Some(file.clone()),
        // Hugging Face's form of an image.
        Value::Object(image) => Some(image.get("path")?.as_str()?.to_owned()),
        _ => None,
    })
}

/// How exact a key of captions is, the smaller the better; none if it is none.
pub fn rank(key: &str) -> Option<usize> {
    let key = key.to_lowercase();
    let stem = key.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(['_', '-', ' ']);
    CAPTION.iter().position(|known| *known == stem)
}

fn captions(object: &Map<String, Value>) -> Vec<String> {
    let Some(best) = object.keys().filter_map(|key| rank(key)).min() else { return Vec::new() };
    let values = object.iter().filter(|(key, _)| rank(key) == Some(best));
    values.flat_map(|(_, value)| texts(value)).collect()
}

/// A text, several, or objects with one each.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        Value::Object(object) => captions(object),
        _ => Vec::new(),
    }
}

/// COCO's annotations: images with ids, and captions that name the id.
#[derive(Deserialize)]
struct Coco {
    images: Option<Vec<Map<String, Value>>>,
    annotations: Option<Vec<Annotation>>,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: Option<Value>,
    caption: Option<String>,
}

fn json(text: &str, is_image: impl Fn(&str) -> bool) -> Result<Option<List>, String> {
    let malformed = |error: serde_json::Error| format!("cannot be parsed as JSON: {error}");
    if text.trim_start().starts_with('[') {
        let objects: Vec<Value> = serde_json::from_str(text).map_err(malformed)?;
        let lines = objects.iter().filter_map(|value| line_of(value.as_object()?));
        return Ok(some_lines(lines.collect()));
    }
    if let Ok(Coco { images: Some(images), annotations }) = serde_json::from_str(text) {
        return Ok(some_lines(coco(&images, annotations.unwrap_or_default())));
    }
    let object: Map<String, Value> = serde_json::from_str(text).map_err(malformed)?;
    let lines = object.into_iter().filter(|(name, _)| is_image(name)).map(|(file, value)| Line {
        file,
        captions: texts(&value),
        tags: Vec::new(),
    });
    Ok(some_lines(lines.collect()))
}

fn some_lines(lines: Vec<Line>) -> Option<List> {
    let any = lines.iter().any(|line| !line.captions.is_empty());
    any.then_some(List { lines, faults: Vec::new() })
}

fn coco(images: &[Map<String, Value>], annotations: Vec<Annotation>) -> Vec<Line> {
    let mut by_id: HashMap<String, Vec<String>> = HashMap::new();
    for annotation in annotations {
        if let (Some(id), Some(caption)) = (annotation.image_id, annotation.caption) {
            by_id.entry(id.to_string()).or_default().push(caption);
        }
    }
    let line = |image: &Map<String, Value>| {
        let mut captions = captions(image);
        captions.extend(image.get("id").and_then(|id| by_id.remove(&id.to_string())).unwrap_or_default());
        (!captions.is_empty()).then_some(Line { file: file(image)?, captions, tags: Vec::new() })
    };
    images.iter().filter_map(line).collect()
}

/// A table: its first row names the columns, or is a name and a caption like the others.
fn table(text: &str, delimiter: Option<u8>, is_image: impl Fn(&str) -> bool) -> Option<List> {
    let first = text.trim_start().split(['\n', '\r']).next()?;
    let delimiter = delimiter.unwrap_or_else(|| {
        [b'\t', b',', b'|', b';']
            .into_iter()
            .find(|&delimiter| first.contains(char::from(delimiter)))
            .unwrap_or(b',')
    });
    // Tab-separated captions hold quotation marks that stand for themselves.
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .quoting(delimiter != b'\t')
        .from_reader(text.as_bytes());
    let mut rows = reader.records().zip(1..);
    let (heading, _) = rows.next()?;
    let heading = heading.ok()?;
    let lower: Vec<String> = heading.iter().map(|name| name.trim().to_lowercase()).collect();
    let file = FILE.iter().find_map(|key| lower.iter().position(|name| name == key));
    let best = lower.iter().filter_map(|name| rank(name)).min();
    let mut list = List::default();
    let (file, texts, width) = match (file, best) {
        (Some(file), Some(best)) => {
            let texts = (0..lower.len()).filter(|&column| rank(&lower[column]) == Some(best));
            (file, texts.collect::<Vec<_>>(), lower.len())
        }
        // Without a heading: the name, then the caption.
        _ if heading.len() >= 2 && is_image(heading[0].trim()) => {
            list.lines.push(row(heading.iter(), 0, &[1], 2, delimiter));
            (0, vec![1], 2)
        }
        _ => return None,
    };
    for (record, number) in rows {
        match record {
            Ok(record) if record.len() > file => {
                list.lines.push(row(record.iter(), file, &texts, width, delimiter));
            }
            Ok(_) => list.faults.push(format!("row {number}: expected a file name and a caption")),
            Err(error) => list.faults.push(format!("row {number}: {error}")),
        }
    }
    Some(list)
}

fn row<'a>(
    fields: impl Iterator<Item = &'a str>,
    file: usize,
    texts: &[usize],
    width: usize,
    delimiter: u8,
) -> Line {
    let fields: Vec<&str> = fields.collect();
    let text = |&column: &usize| {
        // A caption in the last column may hold the delimiter without quotation marks.
        let end = if column + 1 == width { fields.len() } else { column + 1 };
        let parts = fields.get(column..end)?;
        Some(parts.join(char::from(delimiter).to_string().as_str()))
    };
    let captions = texts.iter().filter_map(text).collect();
    Line { file: fields[file].trim().to_owned(), captions, tags: Vec::new() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// The names and captions of a list.
    fn listed(ending: &str, text: &str) -> Vec<(String, Vec<String>)> {
        let is_image = |name: &str| name.split('#').next().is_some_and(|name| name.ends_with(".jpg"));
        let list = read(ending, text, is_image).unwrap().unwrap_or_default();
        assert_eq!(list.faults, Vec::<String>::new(), "{text}");
        list.lines.into_iter().map(|line| (line.file, line.captions)).collect()
    }

    #[test]
    fn every_form_gives_the_same_captions() {
        let expected = [("cat.jpg".to_owned(), vec!["a \"red\" cat, asleep".to_owned()])];
        for (ending, text) in [
            ("jsonl", r#"{"file": "cat.jpg", "caption": "a \"red\" cat, asleep", "width": 3}"#),
            ("jsonl", r#"{"file_name": "cat.jpg", "text": "a \"red\" cat, asleep", "url": null}"#),
            ("jsonl", r#"{"image": {"path": "cat.jpg"}, "captions": ["a \"red\" cat, asleep"]}"#),
            ("csv", "file_name,text\ncat.jpg,\"a \"\"red\"\" cat, asleep\"\n"),
            ("csv", "File_Name,Width,Text\r\ncat.jpg,3,\"a \"\"red\"\" cat, asleep\"\r\n"),
            ("csv", "text,image\n\"a \"\"red\"\" cat, asleep\",cat.jpg\n"),
            ("tsv", "image\tcaption\ncat.jpg\ta \"red\" cat, asleep\n"),
            ("txt", "cat.jpg\ta \"red\" cat, asleep\n"),
            ("txt", "image,caption\ncat.jpg,\"a \"\"red\"\" cat, asleep\""),
            ("txt", "cat.jpg,a \"red\" cat, asleep"),
            ("csv", "image_name| comment_number| comment\ncat.jpg|0|a \"red\" cat, asleep\n"),
            ("json", r#"[{"file_name": "cat.jpg", "caption": "a \"red\" cat, asleep"}]"#),
            ("json", r#"{"cat.jpg": "a \"red\" cat, asleep"}"#),
            ("json", r#"{"cat.jpg": {"caption": "a \"red\" cat, asleep", "tags": "cat"}}"#),
            (
                "json",
                r#"{"info": {}, "images": [{"id": 7, "file_name": "cat.jpg"}, {"id": 8, "file_name": "dog.jpg"}],
                    "annotations": [{"image_id": 7, "id": 1, "caption": "a \"red\" cat, asleep"}]}"#,
            ),
            (
                "json",
                r#"{"images": [{"filename": "cat.jpg", "sentences": [{"raw": "a \"red\" cat, asleep"}]}]}"#,
            ),
        ] {
            let got: Vec<_> = listed(ending, text)
                .into_iter()
                .map(|(file, captions)| {
                    (file, captions.iter().map(|caption| caption.trim().to_owned()).collect())
                })
                .collect();
            assert_eq!(got, expected, "{text}");
        }
    }

    #[test]
    fn an_image_may_have_several_captions() {
        for (ending, text) in [
            ("jsonl", r#"{"image": "cat.jpg", "caption_2": "two", "caption_1": "one", "source": "x"}"#),
            ("json", r#"{"cat.jpg": ["one", "two"]}"#),
            ("csv", "file_name,caption_1,caption_2\ncat.jpg,one,two\n"),
        ] {
            assert_eq!(
                listed(ending, text),
                [("cat.jpg".to_owned(), vec!["one".to_owned(), "two".to_owned()])]
            );
        }
        let coco = r#"{"images": [{"id": "a", "file_name": "cat.jpg"}],
            "annotations": [{"image_id": "a", "caption": "one"}, {"image_id": "a", "caption": "two"}]}"#;
        assert_eq!(listed("json", coco)[0].1, ["one", "two"]);
    }

    #[test]
    fn other_files_are_no_lists() {
        for (ending, text) in [
            ("json", r#"{"count": 30, "successes": 29}"#),
            (
                "json",
                r#"{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "bbox": [0]}]}"#,
            ),
            ("csv", "epoch,loss\n1,0.5\n"),
            ("txt", "A note, and nothing else.\n"),
            ("jsonl", ""),
        ] {
            assert_eq!(listed(ending, text), [], "{text}");
        }
        assert!(read("json", "{\"a\": ", |_| true).unwrap_err().contains("JSON"));
    }

    #[test]
    fn a_line_that_cannot_be_used_is_named_with_its_number() {
        let text = "{\"file\": \"a.jpg\", \"caption\": \"a\"}\n\n{\"file\": 3}\nnonsense\n";
        let list = read("jsonl", text, |_| true).unwrap().unwrap();
        assert_eq!(list.lines.len(), 1);
        assert!(
            list.faults[0].starts_with("line 3: expected") && list.faults[1].starts_with("line 4: expected")
        );
    }
}

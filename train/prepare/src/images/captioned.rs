//! Which captions belong to which images of a list of files.

use std::collections::{HashMap, HashSet};

use dalle_data::{Captions, Reason};
use dalle_shared::{clean_caption, is_blank_caption};
use unicode_normalization::UnicodeNormalization;

use super::files::Member;
use super::kind::{self, Kind, ending, stem};
use super::lists::{self, List};
use super::text;
use crate::content::Content;
use crate::render::Art;
use crate::source::{LeftOut, RawExample};

/// The examples of a source, and what is left out.
pub type Found = Vec<Result<RawExample, LeftOut>>;

/// Most bytes of the captions beside an image.
const MAX_CAPTIONS: u64 = 1 << 20;
/// Most bytes of a list of captions: some ten million lines.
const MAX_LIST: u64 = 1 << 30;
/// Most lines of one list that are named because their images are missing.
const NAMED: usize = 100;

/// A name as it is compared: composed letters, `/` between folders, no `./`.
fn comparable(name: &str) -> String {
    let name = name.replace('\\', "/");
    let parts = name.split('/').filter(|part| !matches!(*part, "" | "."));
    parts.collect::<Vec<_>>().join("/").nfc().collect()
}

/// The folder of a name with its `/`; empty at the top.
fn folder(name: &str) -> &str {
    name.rfind('/').map_or("", |slash| &name[..=slash])
}

/// Files, by what they are.
pub struct Captioned {
    images: Vec<Member>,
    /// Images by name.
    names: HashMap<String, usize>,
    /// Images by the last part of their names in lower case; none where several have it.
    files: HashMap<String, Option<usize>>,
    /// Texts by the name that their image has without its ending, or as a whole.
    texts: HashMap<String, Vec<Member>>,
    lists: Vec<Member>,
    others: Vec<String>,
}

impl Captioned {
    /// Sorts files by what they are.
    pub fn new(members: Vec<Member>) -> Self {
        let mut sorted = Self {
            images: Vec::new(),
            names: HashMap::new(),
            files: HashMap::new(),
            texts: HashMap::new(),
            lists: Vec::new(),
            others: Vec::new(),
        };
        for member in members {
            match kind::of(&member.name) {
                Kind::Image => sorted.images.push(member),
                Kind::Text => {
                    sorted.texts.entry(comparable(stem(&member.name))).or_default().push(member);
                }
                Kind::List => sorted.lists.push(member),
                Kind::Other => sorted.others.push(member.name),
            }
        }
        for (index, image) in sorted.images.iter().enumerate() {
            let name = comparable(&image.name);
            let file = name.rsplit('/').next().unwrap_or_default().to_lowercase();
            sorted.files.entry(file).and_modify(|found| *found = None).or_insert(Some(index));
            sorted.names.insert(name, index);
        }
        sorted
    }

    /// Appends the images with their captions, and what is left out.
    pub fn examples(mut self, found: &mut Found) {
        let stems: HashSet<String> = self.images.iter().map(|image| comparable(stem(&image.name))).collect();
        let (beside, lists): (Vec<Member>, Vec<Member>) = std::mem::take(&mut self.lists)
            .into_iter()
            .partition(|list| ending(&list.name) == "json" && stems.contains(&comparable(stem(&list.name))));
        let mut beside: HashMap<String, Member> =
            beside.into_iter().map(|json| (comparable(stem(&json.name)), json)).collect();
        let mut listed: HashMap<usize, Listed> = HashMap::new();
        for list in lists {
            self.list(&list, &mut listed, found);
        }
        self.tables(&stems, &mut listed, found);
        let mut used = HashSet::new();
        for (index, image) in self.images.iter().enumerate() {
            found.push(self.example(image, listed.remove(&index), &mut beside, &mut used));
        }
        for json in beside.into_values() {
            found.push(Err(other(&json.name)));
        }
        self.unused(&used, found);
    }

    /// The lines of a list, by the images that they name.
    fn list(&self, list: &Member, listed: &mut HashMap<usize, Listed>, found: &mut Found) {
        let read = list.content.read(MAX_LIST).map_err(|error| error.to_string());
        let is_image = |name: &str| self.find(&list.name, name).is_some();
        let read = read
            .and_then(|bytes| text::decode(&bytes))
            .and_then(|text| lists::read(&ending(&list.name), &text, is_image));
        match read {
            // A file that need not be a list is none if it names no image of these.
            Ok(Some(read))
                if lists::must_be_list(&list.name) || read.lines.iter().any(|line| is_image(&line.file)) =>
            {
                self.take(list, read, listed, found);
            }
            Ok(None) if lists::must_be_list(&list.name) && ending(&list.name) != "json" => {
                let message = format!("holds no captions; {}", lists::EXPECTED);
                found.push(Err(LeftOut::unusable(Reason::UnreadableCaption, list.name.as_str(), message)));
            }
            Err(message) if lists::must_be_list(&list.name) => {
                found.push(Err(LeftOut::unusable(Reason::UnreadableCaption, list.name.as_str(), message)));
            }
            _ => found.push(Err(other(&list.name))),
        }
    }

    fn take(&self, list: &Member, read: List, listed: &mut HashMap<usize, Listed>, found: &mut Found) {
        let mut missing = 0;
        for line in read.lines {
            let Some(image) = self.find(&list.name, &line.file) else {
                missing += 1;
                if missing <= NAMED {
                    let message = format!(
                        "{} has a caption for it; expected an image of this name, such as cats/tabby.jpg",
                        list.name
                    );
                    found.push(Err(LeftOut::unusable(Reason::NoImage, line.file, message)));
                } else {
                    found.push(Err(LeftOut::unwanted(Reason::NoImage)));
                }
                continue;
            };
            let image = listed.entry(image).or_default();
            image.list.clone_from(&list.name);
            image.captions.extend(line.captions);
            image.tags.extend(line.tags);
        }
        for fault in read.faults {
            found.push(Err(LeftOut::unusable(Reason::UnreadableCaption, list.name.as_str(), fault)));
        }
    }

    /// Texts without an image of their name that are tables of names and captions, such as `captions.txt`.
    fn tables(&mut self, stems: &HashSet<String>, listed: &mut HashMap<usize, Listed>, found: &mut Found) {
        let mut names: Vec<String> = self.texts.keys().cloned().collect();
        names.sort();
        for name in names {
            if stems.contains(&name) || self.names.contains_key(&name) {
                continue;
            }
            for table in self.texts.remove(&name).unwrap_or_default() {
                let text = table.content.read(MAX_LIST).ok().and_then(|bytes| text::decode(&bytes).ok());
                let is_image = |name: &str| self.find(&table.name, name).is_some();
                match text.and_then(|text| lists::read("txt", &text, is_image).ok().flatten()) {
                    Some(read) if read.lines.iter().any(|line| is_image(&line.file)) => {
                        self.take(&table, read, listed, found);
                    }
                    _ => self.texts.entry(name.clone()).or_default().push(table),
                }
            }
        }
    }

    /// The image that a list means: relative to the list, to the top, or the only one of this file name.
    fn find(&self, list: &str, file: &str) -> Option<usize> {
        let file = comparable(file);
        let exact = |file: &str| {
            let beside = comparable(&format!("{}{file}", folder(list)));
            self.names.get(&beside).or_else(|| self.names.get(file)).copied()
        };
        let last = |file: &str| {
            let last = file.rsplit('/').next().unwrap_or_default().to_lowercase();
            self.files.get(&last).copied().flatten()
        };
        // Flickr's captions are numbered: cat.jpg#0.
        let plain =
            file.rsplit_once('#').filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
        exact(&file)
            .or_else(|| last(&file))
            .or_else(|| plain.and_then(|(plain, _)| exact(plain).or_else(|| last(plain))))
    }

    fn example(
        &self,
        image: &Member,
        listed: Option<Listed>,
        beside: &mut HashMap<String, Member>,
        used: &mut HashSet<String>,
    ) -> Result<RawExample, LeftOut> {
        let name = &image.name;
        let short = stem(name);
        let mut keys = vec![comparable(short), comparable(name)];
        if matches!(image.content, Content::Part { .. }) {
            // In a WebDataset shard the key ends at the first dot.
            let start = folder(name).len();
            let dot = name[start..].find('.').unwrap_or(0);
            keys.push(comparable(&name[..start + dot]));
        }
        let mut texts: Vec<&Member> = Vec::new();
        for key in &keys {
            if let Some(members) = self.texts.get(key).filter(|_| texts.is_empty()) {
                used.insert(key.clone());
                texts.extend(members);
            }
        }
        if kind::is_raw(name) {
            let message = "is a camera's raw file; convert it to JPEG or PNG";
            return Err(LeftOut::unusable(Reason::Unreadable, name, message));
        }
        let mut empty = None;
        let listed = match listed {
            Some(Listed { list, captions, tags }) => {
                let captions = self::captions(&captions, tags);
                empty = captions.is_none().then_some(list);
                captions
            }
            None => None,
        };
        let captions = match listed {
            Some(captions) => Some(captions),
            None => {
                let mut lines = Vec::new();
                for text in texts {
                    match read_text(text) {
                        Ok(read) => lines.extend(read),
                        Err(message) => {
                            return Err(LeftOut::unusable(Reason::UnreadableCaption, name, message));
                        }
                    }
                    empty = Some(text.name.clone());
                }
                if lines.is_empty()
                    && let Some(json) = beside.remove(&keys[0])
                {
                    let read = json.content.read(MAX_CAPTIONS).ok();
                    let read = read.and_then(|bytes| text::decode(&bytes).ok()).unwrap_or_default();
                    lines = lists::beside(&read);
                }
                self::captions(&lines, Vec::new())
            }
        };
        let Some(captions) = captions else {
            let message = match empty {
                Some(file) => format!("its caption in {file} is empty; write one there"),
                None => format!(
                    "has no caption; expected {} beside it, or a line for it in a list such as captions.jsonl or metadata.csv",
                    short.rsplit('/').next().unwrap_or(short).to_owned() + ".txt"
                ),
            };
            return Err(LeftOut::unusable(Reason::NoCaption, name, message));
        };
        Ok(RawExample::new(short.to_owned(), name.clone(), Art::file(image.content.clone(), name), captions))
    }

    /// Texts whose image is missing are named; other files are counted.
    fn unused(self, used: &HashSet<String>, found: &mut Found) {
        let others: HashSet<String> = self.others.iter().map(|name| comparable(stem(name))).collect();
        let mut texts: Vec<_> = self.texts.into_iter().filter(|(key, _)| !used.contains(key)).collect();
        texts.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (key, members) in texts {
            for text in members {
                if others.contains(&key) || kind::is_about(&text.name) {
                    found.push(Err(other(&text.name)));
                    continue;
                }
                let message = "is a caption without an image; expected one of the same name beside it, such as a .jpg file";
                found.push(Err(LeftOut::unusable(Reason::NoImage, text.name, message)));
            }
        }
        found.extend(self.others.iter().map(|name| Err(other(name))));
    }
}

/// What lists say of an image.
#[derive(Default)]
struct Listed {
    list: String,
    captions: Vec<String>,
    tags: Vec<String>,
}

/// The image in a row of a table.
pub fn of_row(image: Member, texts: &[String]) -> Result<RawExample, LeftOut> {
    let Member { name, content } = image;
    match captions(texts, Vec::new()) {
        Some(captions) => {
            let art = Art::file(content, &name);
            Ok(RawExample::new(stem(&name).to_owned(), name, art, captions))
        }
        None => {
            let message = "its row has no caption; expected one in a column such as `text` or `caption`";
            Err(LeftOut::unusable(Reason::NoCaption, name, message))
        }
    }
}

/// A file that is no part of the data, counted by its ending.
fn other(name: &str) -> LeftOut {
    match ending(name).as_str() {
        "" => LeftOut::OtherFile("without an ending".to_owned()),
        ending => LeftOut::OtherFile(format!(".{ending}")),
    }
}

/// The captions in a text beside an image.
fn read_text(text: &Member) -> Result<Vec<String>, String> {
    let fault = |what: String| format!("its caption file {} {what}", text.name);
    let bytes = text.content.read(MAX_CAPTIONS).map_err(|error| fault(format!("cannot be read: {error}")))?;
    Ok(text::captions(&text::decode(&bytes).map_err(fault)?))
}

/// The first caption is the label, the others are alternatives. None if there is no text.
fn captions(lines: &[String], tags: Vec<String>) -> Option<Captions> {
    let mut known = HashSet::new();
    let lines = lines.iter().filter(|line| !is_blank_caption(line)).map(|line| clean_caption(line));
    let mut lines = lines.filter(|line| known.insert(line.clone()));
    let label = lines.next()?;
    let mut templates = vec!["{label}".to_owned()];
    if tags.len() >= 2 {
        templates.push("{label}, {tag}, {tag}".to_owned());
    }
    let alternatives = lines.collect();
    Some(Captions { label, tags, templates, alternatives, ..Captions::default() })
}

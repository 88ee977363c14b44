//! English labels and tags of all emoji, from the package `emojibase-data`.
//!
//! A drawing is joined to them by its code points (without variation selectors), else by the slug of its name:
//! `woman-astronaut-light-skin-tone` is "woman astronaut: light skin tone".

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use dalle_data::{DataError, concept_of, read_json};

/// The package's name on npm.
pub const PACKAGE: &str = "emojibase-data";

/// One emoji.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emoji {
    /// Code points in upper-case hexadecimal joined by `-`, without variation selectors.
    pub hexcode: String,
    /// [`concept_of`] the emoji without its skin tone: what is held out together.
    pub concept: String,
    /// Name, such as "red apple".
    pub label: String,
    /// Related words.
    pub tags: Vec<String>,
    /// Unicode's group, such as `food-drink`; `component` for parts of emoji.
    pub group: String,
    /// Unicode's subgroup, such as `food-fruit`.
    pub subgroup: String,
    /// Whether it is a skin-tone variant of another.
    pub skin_tone: bool,
}

/// Group of the parts that emoji are made of (hair, regional indicators).
const COMPONENT: &str = "component";

#[derive(Deserialize)]
struct Record {
    label: String,
    hexcode: String,
    #[serde(default)]
    tags: Vec<String>,
    group: Option<u32>,
    subgroup: Option<u32>,
    #[serde(default)]
    skins: Vec<Record>,
}

#[derive(Deserialize)]
struct Messages {
    groups: Vec<Message>,
    subgroups: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    key: String,
    order: u32,
}

/// All emoji, by code points and by slug.
pub struct Emojibase {
    emoji: Vec<Emoji>,
    by_hexcode: HashMap<String, usize>,
    by_slug: HashMap<String, usize>,
    groups: Vec<String>,
    subgroups: Vec<String>,
}

impl Emojibase {
    /// Reads `en/data.json` and `en/messages.json` of the package's folder.
    ///
    /// # Errors
    /// One of them is missing or has another shape.
    pub fn read(folder: &Path) -> Result<Self, DataError> {
        let messages: Messages =
            read_json(&folder.join("en/messages.json"), "emojibase's list of group names")?;
        let records: Vec<Record> = read_json(&folder.join("en/data.json"), "emojibase's list of emoji")?;
        let key = |messages: &[Message], order: Option<u32>| {
            messages.iter().find(|m| Some(m.order) == order).map_or(COMPONENT, |m| &m.key).to_owned()
        };
        let mut base = Self {
            emoji: Vec::new(),
            by_hexcode: HashMap::new(),
            by_slug: HashMap::new(),
            groups: messages.groups.iter().map(|group| group.key.clone()).collect(),
            subgroups: messages.subgroups.iter().map(|subgroup| subgroup.key.clone()).collect(),
        };
        for record in records {
            let emoji = Emoji {
                hexcode: hexcode(&record.hexcode),
                concept: concept_of(&record.label),
                group: key(&messages.groups, record.group),
                subgroup: key(&messages.subgroups, record.subgroup),
                label: record.label,
                tags: record.tags,
                skin_tone: false,
            };
            base.insert(emoji.clone());
            for skin in record.skins {
                base.insert(Emoji {
                    hexcode: hexcode(&skin.hexcode),
                    label: skin.label,
                    skin_tone: true,
                    ..emoji.clone()
                });
            }
        }
        Ok(base)
    }

    fn insert(&mut self, emoji: Emoji) {
        let index = self.emoji.len();
        self.by_hexcode.insert(emoji.hexcode.clone(), index);
        self.by_slug.entry(slug(&emoji.label)).or_insert(index);
        self.emoji.push(emoji);
    }

    /// The keys of all groups.
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// The keys of all subgroups.
    pub fn subgroups(&self) -> &[String] {
        &self.subgroups
    }

    /// The emoji of these code points (hexadecimal, joined by `-` or `_`).
    pub fn by_code_points(&self, code_points: &str) -> Option<&Emoji> {
        self.by_hexcode.get(&hexcode(code_points)).map(|&index| &self.emoji[index])
    }

    /// The emoji whose label has this slug. Older sets write `flag-for-japan` for "flag: Japan".
    pub fn by_slug(&self, slug: &str) -> Option<&Emoji> {
        let find = |slug: &str| self.by_slug.get(slug).map(|&index| &self.emoji[index]);
        find(slug).or_else(|| find(&format!("flag-{}", slug.strip_prefix("flag-for-")?)))
    }
}

/// Code points in the form of [`Emoji::hexcode`], from any notation: `1f1e6_fe0f`, `0023-20E3`.
fn hexcode(code_points: &str) -> String {
    let points = code_points.split(['-', '_']).map(|point| format!("{:0>4}", point.to_uppercase()));
    points.filter(|point| point != "FE0F").collect::<Vec<_>>().join("-")
}

/// A label as icon sets write it in file names: ASCII letters and digits, with `-` between words.
fn slug(label: &str) -> String {
    let mut slug = String::new();
    for c in
        label.chars().filter(|c| !matches!(c, '\'' | '’' | '.')).flat_map(char::to_lowercase).map(unaccent)
    {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// The letter without its accent, for the letters that occur in emoji labels.
fn unaccent(c: char) -> char {
    match c {
        'á' | 'à' | 'â' | 'ã' | 'ä' | 'å' => 'a',
        'ç' => 'c',
        'é' | 'è' | 'ê' | 'ë' => 'e',
        'í' | 'ì' | 'î' | 'ï' => 'i',
        'ñ' => 'n',
        'ó' | 'ò' | 'ô' | 'õ' | 'ö' => 'o',
        'ú' | 'ù' | 'û' | 'ü' => 'u',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_points_in_every_notation_are_one() {
        for notation in ["0023-FE0F-20E3", "23-fe0f-20e3", "0023_20e3"] {
            assert_eq!(hexcode(notation), "0023-20E3");
        }
    }

    #[test]
    fn slugs_are_those_of_icon_sets() {
        for (label, expected) in [
            ("woman astronaut: light skin tone", "woman-astronaut-light-skin-tone"),
            ("twelve o’clock", "twelve-oclock"),
            ("piñata", "pinata"),
            ("Japanese “here” button", "japanese-here-button"),
            ("flag: Côte d’Ivoire", "flag-cote-divoire"),
            ("A button (blood type)", "a-button-blood-type"),
        ] {
            assert_eq!(slug(label), expected);
        }
    }
}

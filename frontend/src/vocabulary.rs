//! What the prior was trained to draw: whether the words of a caption were in its captions, and which captions a person may mean.
//!
//! A small prior knows the words of its training and little else, so that the page says which words of a caption it has never seen.

use std::collections::{BTreeMap, BTreeSet};

use dalle_shared::Vocabulary;

/// The vocabulary of a model folder, prepared for searching.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    names: Vec<Name>,
    /// Names by their words.
    phrases: BTreeSet<Vec<String>>,
    /// Colours, sizes, numbers, styles and backgrounds, by their words.
    attributes: BTreeSet<Vec<String>>,
    /// Relations of two things.
    relations: BTreeSet<Vec<String>>,
    /// All words of these, and of templates.
    words: BTreeSet<String>,
    /// Names of emoji.
    emoji: BTreeMap<String, String>,
    /// What captions end with: backgrounds and styles.
    endings: Vec<String>,
    /// Words of the longest phrase.
    longest: usize,
}

#[derive(Clone, Debug, PartialEq)]
struct Name {
    name: String,
    lower: String,
    words: Vec<String>,
    pairs: Vec<[char; 2]>,
}

/// What the prior knows of a caption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All that it names.
    Learned,
    /// What it means, in other words: these.
    InOtherWords(String),
    /// Its words, but in other captions. These are nearest, the nearest first.
    Recombined(Vec<String>),
    /// Not all of its words: not these. The captions are nearest, the nearest first.
    Unknown {
        /// Words in lower case.
        words: Vec<String>,
        /// Captions.
        nearest: Vec<String>,
    },
}

/// Words of the templates of captions, which say nothing about what is shown.
const FILLERS: [&str; 11] =
    ["a", "an", "the", "some", "of", "on", "in", "style", "background", "emoji", "white"];
/// How many captions are named as the nearest.
const NEAREST: usize = 3;
/// Captions that are less alike than this have nothing to do with each other.
const ALIKE: f64 = 0.45;
/// Letters of a caption that are compared with names.
const COMPARED: usize = 100;
/// Words at the end of a caption that may be completed.
const COMPLETED: usize = 8;

impl Known {
    /// Reads the bytes of a `vocabulary.json`. None if it names nothing.
    pub fn from_json(bytes: &[u8]) -> Option<Self> {
        let vocabulary: Vocabulary = serde_json::from_slice(bytes).ok()?;
        let Vocabulary { names, emoji, styles, colours, backgrounds, relations, counts, sizes } = vocabulary;
        if names.is_empty() {
            return None;
        }
        let endings = backgrounds.iter().map(|colour| format!("on {} background", with_article(colour)));
        let endings = endings.chain(styles.iter().map(|style| format!("in {style} style"))).collect();
        let names: Vec<Name> = names.into_keys().map(Name::new).collect();
        let by_words = |lists: &[&BTreeSet<String>]| -> BTreeSet<Vec<String>> {
            lists.iter().flat_map(|list| list.iter()).map(|phrase| words(phrase)).collect()
        };
        let phrases: BTreeSet<Vec<String>> = names.iter().map(|name| name.words.clone()).collect();
        let attributes = by_words(&[&styles, &colours, &backgrounds, &counts, &sizes]);
        let relations = by_words(&[&relations]);
        let all = || phrases.iter().chain(&attributes).chain(&relations);
        Some(Self {
            words: all().flatten().cloned().chain(FILLERS.map(str::to_owned)).collect(),
            longest: all().map(Vec::len).max().unwrap_or(0),
            emoji: emoji.into_iter().map(|(symbol, name)| (bare(&symbol), name)).collect(),
            names,
            phrases,
            attributes,
            relations,
            endings,
        })
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| name.name.as_str())
    }

    /// What the prior knows of a caption. None if there are no words in it.
    pub fn find(&self, caption: &str) -> Option<Verdict> {
        if let Some(name) = self.emoji.get(&bare(caption)) {
            return Some(Verdict::InOtherWords(name.clone()));
        }
        let typed = words(caption);
        if typed.is_empty() {
            return None;
        }
        let unknown: Vec<String> = typed.iter().filter(|word| !self.has_word(word)).cloned().collect();
        Some(if !unknown.is_empty() {
            let nearest = self.nearest(&unknown.join(" "));
            Verdict::Unknown { words: unknown, nearest }
        } else if self.covers(&typed) {
            Verdict::Learned
        } else {
            Verdict::Recombined(self.nearest(&typed.join(" ")))
        })
    }

    /// The names that contain all of these words or beginnings of words, those that begin with them first.
    pub fn search<'a>(&'a self, typed: &str) -> Vec<&'a str> {
        let (typed, parts) = (plain(typed), words(typed));
        if parts.is_empty() && !typed.is_empty() {
            return Vec::new();
        }
        let contains =
            |name: &&Name| parts.iter().all(|part| name.words.iter().any(|word| word.starts_with(part)));
        let mut found: Vec<&Name> = self.names.iter().filter(contains).collect();
        found.sort_by_key(|name| (!name.lower.starts_with(&typed), name.name.len()));
        found.into_iter().map(|name| name.name.as_str()).collect()
    }

    /// Captions that may be meant by what is typed so far: names with these words, or else what is typed with its last words
    /// completed.
    pub fn completions(&self, typed: &str, most: usize) -> Vec<String> {
        let typed = plain(typed);
        let found: Vec<String> = self.search(&typed).into_iter().take(most).map(str::to_owned).collect();
        if !found.is_empty() {
            return found;
        }
        let spaces: Vec<usize> = typed.match_indices(' ').map(|(at, _)| at + 1).collect();
        let of_rest = |&at: &usize| {
            let (before, rest) = typed.split_at(at);
            let ending = self.endings.iter().filter(|ending| ending.starts_with(rest)).map(String::as_str);
            let found: Vec<&str> = ending.chain(self.search(rest)).take(most).collect();
            found.into_iter().map(|found| format!("{before}{found}")).collect::<Vec<_>>()
        };
        let last = spaces.iter().skip(spaces.len().saturating_sub(COMPLETED));
        last.map(of_rest).find(|found| !found.is_empty()).unwrap_or_default()
    }

    fn has_word(&self, word: &str) -> bool {
        forms(word).iter().any(|form| self.words.contains(form))
    }

    /// Whether words are a sequence of names, attributes and fillers, with one name, or two in a relation.
    fn covers(&self, typed: &[String]) -> bool {
        // For each place, the numbers of names and relations with which the words before it can be read.
        let mut reached: Vec<BTreeSet<[usize; 2]>> = vec![BTreeSet::new(); typed.len() + 1];
        reached[0].insert([0, 0]);
        for at in 0..typed.len() {
            let from = std::mem::take(&mut reached[at]);
            if from.is_empty() {
                continue;
            }
            for length in 1..=self.longest.min(typed.len() - at) {
                let part = &typed[at..at + length];
                let filler = length == 1 && FILLERS.contains(&part[0].as_str());
                let kinds = [
                    (filler || is_in(&self.attributes, part), [0, 0]),
                    (is_in(&self.phrases, part), [1, 0]),
                    (self.relations.contains(part), [0, 1]),
                ];
                for (_, [names, relations]) in kinds.into_iter().filter(|(is, _)| *is) {
                    let more = from.iter().map(|[n, r]| [n + names, r + relations]);
                    reached[at + length].extend(more.filter(|[n, r]| *n <= 2 && *r <= 1));
                }
            }
        }
        reached[typed.len()].contains(&[1, 0]) || reached[typed.len()].contains(&[2, 1])
    }

    fn nearest(&self, typed: &str) -> Vec<String> {
        let typed: String = typed.chars().take(COMPARED).collect();
        let (parts, pairs) = (words(&typed), pairs(&typed));
        let mut alike: Vec<(f64, &str)> = self
            .names
            .iter()
            .map(|name| (name.likeness(&parts, &pairs), name.name.as_str()))
            .filter(|(likeness, _)| *likeness >= ALIKE)
            .collect();
        alike.sort_by(|(a, x), (b, y)| b.total_cmp(a).then(x.len().cmp(&y.len())));
        alike.into_iter().take(NEAREST).map(|(_, name)| name.to_owned()).collect()
    }
}

impl Name {
    fn new(name: String) -> Self {
        Self { lower: name.to_lowercase(), words: words(&name), pairs: pairs(&name), name }
    }

    /// How alike a text is, from 0 to 1: the share of pairs of letters in common (Dice's coefficient), or what a whole word in common makes
    /// of it.
    fn likeness(&self, words: &[String], pairs: &[[char; 2]]) -> f64 {
        let (mut common, mut ours) = (0, self.pairs.iter().peekable());
        for pair in pairs {
            while ours.next_if(|own| *own < pair).is_some() {}
            common += u32::from(ours.next_if_eq(&pair).is_some());
        }
        let dice = 2.0 * f64::from(common) / (pairs.len() + self.pairs.len()).max(1) as f64;
        let word = words.iter().any(|word| word.chars().count() > 2 && self.words.contains(word));
        if word { 0.5 + dice / 2.0 } else { dice }
    }
}

/// Whether the words are in `phrases`, or their last word in the singular.
fn is_in(phrases: &BTreeSet<Vec<String>>, typed: &[String]) -> bool {
    let Some((last, others)) = typed.split_last() else { return false };
    forms(last).into_iter().any(|form| phrases.contains(&[others, &[form]].concat()))
}

fn with_article(colour: &str) -> String {
    let article = if colour.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {colour}")
}

/// An emoji without the selectors of its presentation.
fn bare(text: &str) -> String {
    text.trim().replace('\u{fe0f}', "")
}

/// In lower case, with single spaces.
fn plain(text: &str) -> String {
    text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

/// The words in lower case, without punctuation.
fn words(text: &str) -> Vec<String> {
    let text = bare(text).to_lowercase().replace('’', "'");
    let between = |c: char| {
        c.is_whitespace()
            || (c.is_ascii_punctuation() && c != '\'')
            || "“”„«»‹›…–—¿¡、。，！？：；".contains(c)
    };
    let words = text.split(between).map(|word| word.trim_matches('\''));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Neighbouring letters, in order.
fn pairs(text: &str) -> Vec<[char; 2]> {
    let text: Vec<char> = format!(" {text} ").to_lowercase().chars().collect();
    let mut pairs: Vec<[char; 2]> = text.windows(2).map(|pair| [pair[0], pair[1]]).collect();
    pairs.sort_unstable();
    pairs
}

/// A word, and what it may be the plural of.
fn forms(word: &str) -> Vec<String> {
    let mut forms = vec![word.to_owned()];
    if let Some(stem) = word.strip_suffix("ies") {
        forms.push(format!("{stem}y"));
    }
    for ending in ["es", "s"] {
        forms.extend(word.strip_suffix(ending).map(str::to_owned));
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let json = r#"{"names": {"cat": 3, "cat face": 2, "cherries": 1, "red apple": 4, "apple": 4, "red heart": 2, "strawberry": 1,
            "dog face": 2, "T-Rex": 1, "glass": 1, "sleeping face": 1, "apple pie": 1, "man’s shoe": 1}, "emoji": {"🍎": "red apple", "❤️": "red heart"},
            "styles": ["3d", "flat"], "colours": ["red", "purple"], "backgrounds": ["orange", "light blue"],
            "relations": ["and", "to the left of"], "counts": ["two"], "sizes": ["small"]}"#;
        Known::from_json(json.as_bytes()).expect("a vocabulary")
    }

    #[test]
    fn what_was_learned_is_found_with_articles_plurals_colours_styles_and_backgrounds() {
        for caption in [
            "cat",
            " Cat ",
            "a cat, flat style",
            "the red  apples",
            "strawberries",
            "glasses",
            "two purple cats",
            "T-rex in 3d style",
            "a purple apple pie",
            "a man's shoe",
            "a small cat to the left of an apple on a light blue background",
        ] {
            assert_eq!(known().find(caption), Some(Verdict::Learned), "{caption}");
        }
    }

    #[test]
    fn an_emoji_is_another_word_for_its_name() {
        for (caption, name) in [("🍎", "red apple"), ("\u{2764}", "red heart")] {
            assert_eq!(known().find(caption), Some(Verdict::InOtherWords(name.to_owned())), "{caption}");
        }
    }

    #[test]
    fn known_words_in_another_caption_are_told_from_words_that_were_never_seen() {
        let Some(Verdict::Recombined(nearest)) = known().find("a sleeping cat") else {
            panic!("its words are known")
        };
        assert!(nearest.contains(&"cat".to_owned()), "{nearest:?}");
        for caption in ["cat cat", "red", "on a light blue background", "the", "cat and apple and glass"] {
            assert!(matches!(known().find(caption), Some(Verdict::Recombined(_))), "{caption}");
        }
        let Some(Verdict::Unknown { words, nearest }) = known().find("a strawbery under the Moon") else {
            panic!("it was not learned")
        };
        assert_eq!(words, ["strawbery", "under", "moon"]);
        assert_eq!(nearest[0], "strawberry");
        for (caption, unknown) in
            [("xyzzy", "xyzzy"), ("🦄", "🦄"), ("बिल्ली", "बिल्ली"), ("🍎 on a light blue background", "🍎")]
        {
            let Some(Verdict::Unknown { words, .. }) = known().find(caption) else { panic!("{caption}") };
            assert_eq!(words, [unknown]);
        }
        for nothing in ["", "  ", "!!!", "'"] {
            assert_eq!(known().find(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_search_finds_beginnings_of_words() {
        assert_eq!(known().search("ca"), ["cat", "cat face"]);
        assert_eq!(known().search("fac"), ["cat face", "dog face", "sleeping face"]);
        assert_eq!(known().search("face dog"), ["dog face"]);
        assert_eq!(known().search("").len(), 13);
        assert_eq!(known().search("man's"), ["man’s shoe"]);
        for nothing in ["zz", "🦄", "!"] {
            assert_eq!(known().search(nothing), [] as [&str; 0], "{nothing}");
        }
    }

    #[test]
    fn the_last_words_of_a_caption_are_completed() {
        assert_eq!(known().completions("ca", 6), ["cat", "cat face"]);
        assert_eq!(known().completions("two che", 6), ["two cherries"]);
        assert_eq!(known().completions("a cat on", 1), ["a cat on a light blue background"]);
        assert_eq!(known().completions("a cat on an", 6), ["a cat on an orange background"]);
        assert_eq!(known().completions("a cat in 3", 6), ["a cat in 3d style"]);
        for nothing in ["xyzzy", "xyzzy 🦄", ""] {
            let expected = if nothing.is_empty() { 13 } else { 0 };
            assert_eq!(known().completions(nothing, 20).len(), expected, "{nothing}");
        }
    }
}

//! What a small model learned: its captions, each with the emoji that it belongs to, if any. It finds those that a person means.
//!
//! A prior of this size knows the captions that it was trained on and little else, so that the page says whether a caption is one of
//! them, and which are nearest.

/// The captions, `captions.json` of a model folder: a list of `[caption, emoji]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vocabulary {
    captions: Vec<(String, String)>,
}

/// Whether a caption was learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Word for word, perhaps followed by tags.
    Learned,
    /// In other words: these.
    InOtherWords(String),
    /// Not; these are nearest, the nearest first.
    NotLearned(Vec<String>),
}

/// How many captions are named as the nearest.
const NEAREST: usize = 3;
/// Captions that are less alike than this have nothing to do with each other.
const ALIKE: f64 = 0.3;

impl Vocabulary {
    /// Reads the bytes of a `captions.json`.
    pub fn from_json(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().map(|captions| Self { captions })
    }

    /// All captions.
    pub fn captions(&self) -> impl Iterator<Item = &str> {
        self.captions.iter().map(|(caption, _)| caption.as_str())
    }

    /// Whether a caption was learned.
    pub fn find(&self, caption: &str) -> Verdict {
        let typed = plain(caption);
        let first = typed.split(',').next().unwrap_or_default().trim().to_owned();
        if self.has(&first) {
            return Verdict::Learned;
        }
        let known =
            self.by_emoji(caption).or_else(|| simpler(&first).into_iter().find(|caption| self.has(caption)));
        match known {
            Some(known) => Verdict::InOtherWords(known),
            None => Verdict::NotLearned(self.nearest(&first)),
        }
    }

    /// The captions that contain all of these words or beginnings of words, those that begin with them first.
    pub fn search<'a>(&'a self, words: &str) -> Vec<&'a str> {
        let typed = plain(words);
        let contains = |caption: &&str| {
            let caption = caption.to_lowercase();
            typed.split(' ').all(|part| caption.split([' ', '-']).any(|word| word.starts_with(part)))
        };
        let mut found: Vec<&str> = self.captions().filter(contains).collect();
        found.sort_by_key(|caption| (!caption.to_lowercase().starts_with(&typed), caption.len()));
        found
    }

    fn has(&self, caption: &str) -> bool {
        self.captions.iter().any(|(known, _)| known.eq_ignore_ascii_case(caption))
    }

    /// The caption of the emoji that a text is.
    fn by_emoji(&self, text: &str) -> Option<String> {
        let bare = |text: &str| text.trim().replace('\u{fe0f}', "");
        let text = bare(text);
        let found = self.captions.iter().find(|(_, emoji)| !emoji.is_empty() && bare(emoji) == text)?;
        Some(found.0.clone())
    }

    fn nearest(&self, typed: &str) -> Vec<String> {
        let plain = simpler(typed).pop().unwrap_or_else(|| typed.to_owned());
        let mut alike: Vec<(f64, &str)> = self
            .captions()
            .map(|caption| (likeness(typed, caption).max(likeness(&plain, caption)), caption))
            .filter(|(likeness, _)| *likeness >= ALIKE)
            .collect();
        alike.sort_by(|(a, x), (b, y)| b.total_cmp(a).then(x.len().cmp(&y.len())));
        alike.into_iter().take(NEAREST).map(|(_, caption)| caption.to_owned()).collect()
    }
}

/// In lower case, with single spaces.
fn plain(text: &str) -> String {
    text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

/// A caption without its article, and the same with its last word in the singular.
fn simpler(typed: &str) -> Vec<String> {
    let bare = ["a ", "an ", "the ", "some ", "two ", "three "]
        .iter()
        .find_map(|article| typed.strip_prefix(article))
        .unwrap_or(typed);
    let mut forms = vec![bare.to_owned()];
    if let Some(stem) = bare.strip_suffix("ies") {
        forms.push(format!("{stem}y"));
    }
    if let Some(stem) = bare.strip_suffix("es") {
        forms.push(stem.to_owned());
    }
    if let Some(stem) = bare.strip_suffix('s') {
        forms.push(stem.to_owned());
    }
    forms
}

/// How alike two captions are, from 0 to 1: the share of pairs of letters that they have in common (Dice's coefficient), or what a whole
/// word in common makes of it.
fn likeness(a: &str, b: &str) -> f64 {
    let pairs = |text: &str| {
        let text: Vec<char> = format!(" {text} ").to_lowercase().chars().collect();
        text.windows(2).map(|pair| (pair[0], pair[1])).collect::<Vec<_>>()
    };
    let (first, mut second) = (pairs(a), pairs(b));
    let total = first.len() + second.len();
    let mut common = 0;
    for pair in &first {
        if let Some(index) = second.iter().position(|other| other == pair) {
            second.swap_remove(index);
            common += 1;
        }
    }
    let dice = 2.0 * f64::from(common) / total.max(1) as f64;
    let b = b.to_lowercase();
    let word = a.split(' ').any(|word| word.len() > 2 && b.split([' ', '-']).any(|other| other == word));
    if word { 0.5 + dice / 2.0 } else { dice }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> Vocabulary {
        let json = r#"[["cat", "🐈"], ["cat face", "🐱"], ["cherries", "🍒"], ["red apple", "🍎"], ["red heart", "❤️"],
            ["strawberry", "🍓"], ["dog face", "🐶"], ["T-rex", "🦖"], ["glass", ""]]"#;
        Vocabulary::from_json(json.as_bytes()).expect("a list")
    }

    #[test]
    fn what_was_learned_is_found_whatever_its_case_and_tags() {
        for caption in ["cat", " Cat ", "red  apple", "red apple, fruit, tree", "cherries", "t-rex"] {
            assert_eq!(vocabulary().find(caption), Verdict::Learned, "{caption}");
        }
    }

    #[test]
    fn articles_plurals_and_emoji_are_other_words_for_it() {
        for (caption, known) in [
            ("a cat", "cat"),
            ("the red apples", "red apple"),
            ("strawberries", "strawberry"),
            ("glasses", "glass"),
            ("🍎", "red apple"),
            ("\u{2764}", "red heart"),
        ] {
            assert_eq!(vocabulary().find(caption), Verdict::InOtherWords(known.to_owned()), "{caption}");
        }
    }

    #[test]
    fn other_captions_have_nearest_ones_or_none() {
        assert_eq!(
            vocabulary().find("a sleeping cat"),
            Verdict::NotLearned(vec!["cat".into(), "cat face".into()])
        );
        let Verdict::NotLearned(nearest) = vocabulary().find("strawbery") else {
            panic!("it was not learned")
        };
        assert_eq!(nearest[0], "strawberry");
        assert_eq!(vocabulary().find("xyzzy"), Verdict::NotLearned(Vec::new()));
        assert_eq!(vocabulary().find(""), Verdict::NotLearned(Vec::new()));
    }

    #[test]
    fn a_search_finds_beginnings_of_words() {
        assert_eq!(vocabulary().search("ca"), ["cat", "cat face"]);
        assert_eq!(vocabulary().search("fac"), ["cat face", "dog face"]);
        assert_eq!(vocabulary().search("face dog"), ["dog face"]);
        assert_eq!(vocabulary().search("").len(), 9);
        assert_eq!(vocabulary().search("zz"), [] as [&str; 0]);
    }
}

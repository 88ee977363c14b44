//! What things are called: the names of labels, and the English grammar that captions need.
//!
//! `configs/data/names.json` lists the names of each label of emojibase as noun phrases with their article, the most usual
//! first: `"hot beverage": ["a hot drink", "a cup of coffee"]`. A label that is not listed is not used.

use std::collections::BTreeMap;
use std::path::Path;

use dalle_data::{DataError, bare, read_json};

/// Names by label.
pub struct Names(BTreeMap<String, Vec<String>>);

impl Names {
    /// Reads the list.
    ///
    /// # Errors
    /// It cannot be read, is no list, or a name is empty or holds a placeholder.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let names: BTreeMap<String, Vec<String>> = read_json(path, "a list of names by label")?;
        for (label, names) in &names {
            if names.is_empty() {
                return Err(DataError::malformed(path, format!("`{label}`: expected at least one name")));
            }
            if let Some(name) = names.iter().find(|name| name.trim() != **name || bare(name).is_empty()) {
                return Err(DataError::malformed(
                    path,
                    format!("`{label}`: expected a name such as \"a red apple\", got \"{name}\""),
                ));
            }
        }
        Ok(Self(names))
    }

    /// The names of a label, the most usual first.
    pub fn of(&self, label: &str) -> Option<&[String]> {
        self.0.get(label).map(Vec::as_slice)
    }

    /// All labels with their names.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Vec<String>)> {
        self.0.iter()
    }
}

/// Words for colours in names of drawings.
const COLOURS: [&str; 16] = [
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey", "gray",
    "gold", "golden", "silver", "bronze",
];

/// Prepositions and verbs after which a noun phrase describes its head no further.
const AFTER_HEAD: [&str; 24] = [
    "of", "with", "without", "in", "on", "at", "to", "from", "for", "over", "under", "behind", "showing",
    "facing", "taking", "landing", "pouring", "forming", "covering", "tilted", "and", "by", "left", "right",
];

/// Beginnings of words that are written with a vowel and spoken with a consonant.
const SPOKEN_CONSONANT: [&str; 6] = ["uni", "use", "uti", "ewe", "ufo", "one"];

/// Words that are written with a consonant and spoken with a vowel.
const SPOKEN_VOWEL: [&str; 6] = ["hour", "honest", "heir", "herb", "x-ray", "suv"];

/// The phrase with its indefinite article.
pub fn with_article(phrase: &str) -> String {
    let lower = phrase.to_lowercase();
    let begins = |words: &[&str]| words.iter().any(|word| lower.starts_with(word));
    let vowel = lower.starts_with(['a', 'e', 'i', 'o', 'u']);
    let an = (vowel && !begins(&SPOKEN_CONSONANT)) || begins(&SPOKEN_VOWEL);
    format!("{} {phrase}", if an { "an" } else { "a" })
}

/// Whether the name is of one thing that can be counted: it has an indefinite article.
pub fn is_countable(name: &str) -> bool {
    name.starts_with("a ") || name.starts_with("an ")
}

/// Whether the name holds a word for a colour.
pub fn has_colour(name: &str) -> bool {
    name.split([' ', '-']).any(|word| COLOURS.contains(&word.to_lowercase().as_str()))
}

/// The name with a colour: "a red car", "red flowers". None if it holds a colour, or if a colour before it would not be
/// English or not be true: "a red cup of coffee", "a red old house".
pub fn coloured(name: &str, colour: &str) -> Option<String> {
    /// Words that stand before a colour.
    const BEFORE_COLOUR: [&str; 28] = [
        "small",
        "big",
        "large",
        "old",
        "open",
        "closed",
        "two",
        "half",
        "flying",
        "burning",
        "hatching",
        "clinking",
        "crossed",
        "fallen",
        "fried",
        "wild",
        "tropical",
        "empty",
        "steaming",
        "wrapped",
        "baby",
        "shining",
        "fast",
        "french",
        "decorated",
        "cooked",
        "wilted",
        "leafy",
    ];
    let phrase = bare(name);
    let words: Vec<&str> = phrase.split(' ').collect();
    let plain = !has_colour(name)
        && words.iter().all(|word| !AFTER_HEAD.contains(word))
        && !BEFORE_COLOUR.contains(&words[0].to_lowercase().as_str())
        && !phrase.starts_with(char::is_uppercase)
        && !name.starts_with("the ")
        && words.len() <= 3;
    let phrase = format!("{colour} {phrase}");
    plain.then(|| if is_countable(name) { with_article(&phrase) } else { phrase })
}

/// The plural of a countable name, without article: "dogs", "cups of coffee".
pub fn plural(name: &str) -> String {
    let phrase = bare(name);
    let words: Vec<&str> = phrase.split(' ').collect();
    let head =
        words.iter().position(|word| AFTER_HEAD.contains(word)).unwrap_or(words.len()).saturating_sub(1);
    let words: Vec<String> = words
        .iter()
        .enumerate()
        .map(|(index, word)| if index == head { plural_of_word(word) } else { (*word).to_owned() })
        .collect();
    words.join(" ")
}

/// Nouns with a plural of their own.
const IRREGULAR: [(&str, &str); 34] = [
    ("mouse", "mice"),
    ("goose", "geese"),
    ("tooth", "teeth"),
    ("foot", "feet"),
    ("man", "men"),
    ("woman", "women"),
    ("child", "children"),
    ("ox", "oxen"),
    ("die", "dice"),
    ("knife", "knives"),
    ("leaf", "leaves"),
    ("wolf", "wolves"),
    ("scarf", "scarves"),
    ("loaf", "loaves"),
    ("half", "halves"),
    ("sheep", "sheep"),
    ("deer", "deer"),
    ("fish", "fish"),
    ("pufferfish", "pufferfish"),
    ("blowfish", "blowfish"),
    ("jellyfish", "jellyfish"),
    ("moose", "moose"),
    ("elk", "elk"),
    ("bison", "bison"),
    ("squid", "squid"),
    ("shrimp", "shrimp"),
    ("potato", "potatoes"),
    ("tomato", "tomatoes"),
    ("mango", "mangoes"),
    ("volcano", "volcanoes"),
    ("tornado", "tornadoes"),
    ("mosquito", "mosquitoes"),
    ("buffalo", "buffaloes"),
    ("cactus", "cacti"),
];

/// The plural of an English noun.
fn plural_of_word(word: &str) -> String {
    if let Some((_, plural)) = IRREGULAR.iter().find(|(one, _)| *one == word) {
        return (*plural).to_owned();
    }
    // "snowman", "fireman".
    if let Some(stem) =
        word.strip_suffix("man").filter(|stem| !stem.is_empty() && *stem != "hu" && *stem != "ger")
    {
        return format!("{stem}men");
    }
    let vowel_before = |ending: &str| {
        word.strip_suffix(ending).is_some_and(|stem| stem.ends_with(['a', 'e', 'i', 'o', 'u']))
    };
    if word.ends_with('y') && !vowel_before("y") {
        return format!("{}ies", &word[..word.len() - 1]);
    }
    if ["s", "x", "z", "ch", "sh"].iter().any(|ending| word.ends_with(ending)) {
        return format!("{word}es");
    }
    format!("{word}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Names {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/data/names.json");
        Names::read(&path).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn every_name_has_the_article_that_it_is_spoken_with() {
        for (label, names) in shipped().iter() {
            for name in names {
                if is_countable(name) {
                    assert_eq!(*name, with_article(bare(name)), "{label}");
                }
                assert!(!name.contains(['{', '}', '’']) && !name.contains("  "), "{label}: {name}");
            }
            let mut different = names.clone();
            different.sort();
            different.dedup();
            assert_eq!(different.len(), names.len(), "{label}: a name twice");
        }
    }

    #[test]
    fn nouns_have_their_plural() {
        for (name, expected) in [
            ("a dog", "dogs"),
            ("a red apple", "red apples"),
            ("a cup of coffee", "cups of coffee"),
            ("a box", "boxes"),
            ("a witch", "witches"),
            ("a cherry", "cherries"),
            ("a key", "keys"),
            ("a mouse", "mice"),
            ("a computer mouse", "computer mice"),
            ("a snowman", "snowmen"),
            ("a maple leaf", "maple leaves"),
            ("a bunch of flowers", "bunches of flowers"),
            ("a tropical fish", "tropical fish"),
            ("a sun behind a cloud", "suns behind a cloud"),
            ("a magnifying glass tilted left", "magnifying glasses tilted left"),
            ("a T-Rex", "T-Rexes"),
            ("a bus", "buses"),
            ("a paintbrush", "paintbrushes"),
        ] {
            assert_eq!(plural(name), expected);
        }
    }

    #[test]
    fn a_colour_stands_where_english_has_it_or_not_at_all() {
        for (name, expected) in [
            ("a car", Some("a red car")),
            ("an umbrella", Some("a red umbrella")),
            ("flowers", Some("red flowers")),
            ("a red apple", None),
            ("a cup of coffee", None),
            ("an old house", None),
            ("the sun", None),
            ("a gold medal", None),
            ("Santa Claus", None),
            ("light-blue shoes", None),
        ] {
            assert_eq!(coloured(name, "red").as_deref(), expected, "{name}");
        }
        assert_eq!(coloured("a car", "orange").as_deref(), Some("an orange car"));
    }
}

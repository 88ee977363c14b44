//! The caption tokenizer in the browser: lower-cased byte-level BPE (section 2.2), from the same `tokenizer.json`, with the same ids.
//!
//! The library that trains and applies it natively would be a third of the page's download, for kinds of tokenizer that captions do
//! not have.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use serde::Deserialize;

use crate::TextToken;
use crate::encoding::{Encoding, TokenizerError, byte_of, show};
use crate::letters::{is_letter, is_number};

/// The parts of a `tokenizer.json` that determine ids.
#[derive(Deserialize)]
struct File {
    added_tokens: Vec<serde::de::IgnoredAny>,
    normalizer: Kind,
    pre_tokenizer: Splitter,
    model: Model,
}

#[derive(Deserialize)]
struct Kind {
    r#type: String,
}

#[derive(Deserialize)]
struct Splitter {
    r#type: String,
    add_prefix_space: bool,
    use_regex: bool,
}

#[derive(Deserialize)]
struct Model {
    r#type: String,
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
}

/// A merge, as newer and older files write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Text(String),
}

/// A caption tokenizer.
#[derive(Clone, Debug)]
pub struct BrowserTokenizer {
    /// Each id in the byte-level alphabet.
    tokens: Vec<String>,
    /// The id of each byte.
    bytes: Vec<u32>,
    /// Rank and result of each pair that is merged.
    merges: HashMap<(u32, u32), (usize, u32)>,
}

impl BrowserTokenizer {
    /// Reads the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`TokenizerError::Malformed`] if it is not a byte-level BPE tokenizer.
    pub fn from_json(bytes: &[u8]) -> Result<Self, TokenizerError> {
        let malformed = |problem: &str| TokenizerError::Malformed(problem.to_owned());
        let file: File =
            serde_json::from_slice(bytes).map_err(|error| TokenizerError::Malformed(error.to_string()))?;
        let File { added_tokens, normalizer, pre_tokenizer, model } = file;
        let splitter =
            pre_tokenizer.r#type == "ByteLevel" && pre_tokenizer.add_prefix_space && pre_tokenizer.use_regex;
        if normalizer.r#type != "Lowercase" || !splitter || model.r#type != "BPE" || !added_tokens.is_empty()
        {
            return Err(malformed("it does not lower-case and split as captions are"));
        }
        let mut tokens = vec![None; model.vocab.len()];
        for (token, id) in &model.vocab {
            let place =
                tokens.get_mut(*id as usize).ok_or_else(|| malformed(&format!("id {id} is too large")))?;
            if place.replace(token.clone()).is_some() {
                return Err(malformed(&format!("id {id}: two tokens have it")));
            }
        }
        let tokens: Vec<String> =
            tokens.into_iter().collect::<Option<_>>().ok_or_else(|| malformed("an id has no token"))?;
        let mut single = vec![None; 256];
        for (token, id) in &model.vocab {
            let mut chars = token.chars();
            if let (Some(byte), None) = (chars.next().and_then(byte_of), chars.next()) {
                single[usize::from(byte)] = Some(*id);
            }
        }
        let bytes =
            single.into_iter().collect::<Option<_>>().ok_or_else(|| malformed("a byte has no token"))?;
        let mut merges = HashMap::new();
        for (rank, merge) in model.merges.iter().enumerate() {
            let (left, right) = match merge {
                Merge::Pair(left, right) => (left.as_str(), right.as_str()),
                Merge::Text(text) => {
                    text.split_once(' ').ok_or_else(|| malformed("a merge is not a pair"))?
                }
            };
            let id = |token: &str| {
                model
                    .vocab
                    .get(token)
                    .copied()
                    .ok_or_else(|| malformed(&format!("no token `{token}` for a merge")))
            };
            merges.insert((id(left)?, id(right)?), (rank, id(&format!("{left}{right}"))?));
        }
        Ok(Self { tokens, bytes, merges })
    }

    /// Encodes a caption into at most `length` ids.
    ///
    /// # Errors
    /// None; the library's can fail.
    pub fn encode(&self, caption: &str, length: usize) -> Result<Encoding, TokenizerError> {
        let mut text: String = caption.trim().chars().flat_map(char::to_lowercase).collect();
        if !text.is_empty() && !text.starts_with(' ') {
            text.insert(0, ' ');
        }
        let mut ids = Vec::new();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (word, others) = rest.split_at(first_word(rest));
            ids.extend(self.merge(word));
            rest = others;
        }
        let kept = ids.len().min(length);
        Ok(Encoding {
            cut: ids.len() - kept,
            pieces: ids[..kept].iter().map(|id| show(&self.tokens[*id as usize])).collect(),
            ids: ids[..kept].iter().copied().map(TextToken).collect(),
        })
    }

    /// The ids of a word: its bytes, of which the pair with the lowest rank is merged again and again, the leftmost first. A link may
    /// contain a word of any length, so the pairs are in a heap.
    fn merge(&self, word: &str) -> Vec<u32> {
        // The id at each position; None once it has been merged into the one before it.
        let mut ids: Vec<Option<u32>> =
            word.bytes().map(|byte| Some(self.bytes[usize::from(byte)])).collect();
        let mut after: Vec<usize> = (1..=ids.len()).collect();
        let mut before: Vec<Option<usize>> = (0..ids.len()).map(|at| at.checked_sub(1)).collect();
        let pair =
            |ids: &[Option<u32>], after: &[usize], at: usize| Some((ids[at]?, (*ids.get(after[at])?)?));
        let ranked = |ids: &[Option<u32>], after: &[usize], at: usize| {
            let pair = pair(ids, after, at)?;
            let (rank, id) = self.merges.get(&pair)?;
            Some(Reverse((*rank, at, pair, *id)))
        };
        let mut heap: BinaryHeap<_> = (0..ids.len()).filter_map(|at| ranked(&ids, &after, at)).collect();
        while let Some(Reverse((_, at, old, id))) = heap.pop() {
            // One of the two may have been merged since.
            if pair(&ids, &after, at) != Some(old) {
                continue;
            }
            let removed = after[at];
            (ids[at], ids[removed]) = (Some(id), None);
            after[at] = after[removed];
            if let Some(next) = before.get_mut(after[at]) {
                *next = Some(at);
            }
            let changed = before[at].into_iter().chain([at]);
            heap.extend(changed.filter_map(|at| ranked(&ids, &after, at)));
        }
        ids.into_iter().flatten().collect()
    }
}

/// Length of the first word in bytes, by GPT-2's expression `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
/// The text is not empty.
fn first_word(text: &str) -> usize {
    let endings = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];
    if let Some(ending) = endings.iter().find(|ending| text.starts_with(**ending)) {
        return ending.len();
    }
    let space = usize::from(text.starts_with(' '));
    let other = |c: char| !c.is_whitespace() && !is_letter(c) && !is_number(c);
    let kinds: [&dyn Fn(char) -> bool; 3] = [&is_letter, &is_number, &other];
    for kind in kinds {
        let run = run(&text[space..], kind);
        if run > 0 {
            return space + run;
        }
    }
    // White space. The last of it belongs to the word after it, if there is one and more of it.
    let all = run(text, &char::is_whitespace);
    let last = text[..all].chars().next_back().map_or(0, char::len_utf8);
    if all < text.len() && all > last { all - last } else { all }
}

/// Length in bytes of the characters of one kind at the beginning.
fn run(text: &str, kind: &dyn Fn(char) -> bool) -> usize {
    text.find(|c: char| !kind(c)).unwrap_or(text.len())
}

//! Keys of images in the shards. A key is the image's name as far as shards allow; where that would give two images one key, a part
//! of a hash makes them different.

use std::collections::{HashMap, HashSet};

use dalle_data::sanitise_key;
use dalle_shared::sha256_hex;

use crate::background::PALETTE;

/// Digits of the hash in a key.
const DIGITS: usize = 12;
/// Letters of the name that are kept beside it.
const KEPT: usize = 60;

/// A key for each image, given as its name and its origin. It depends on the images alone, not on their order.
pub fn unique_keys<'a>(images: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let images: Vec<(&str, &str)> = images.collect();
    let plain: Vec<String> = images.iter().map(|(name, _)| sanitise_key(name)).collect();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for key in &plain {
        *counts.entry(key).or_default() += 1;
    }
    // The image `a_on_pink` beside the image `a`, whose copy on pink has this key.
    let is_copy = |key: &str| {
        PALETTE.iter().any(|background| {
            let ending = format!("_on_{}", background.name.replace(' ', "-"));
            key.strip_suffix(&ending).is_some_and(|image| counts.contains_key(image))
        })
    };
    let mut used: HashSet<String> = HashSet::new();
    let keys = plain.iter().zip(&images).map(|(key, (name, origin))| {
        if counts[key.as_str()] == 1 && !is_copy(key) {
            used.insert(key.clone());
            return key.clone();
        }
        let kept: String = key.chars().take(KEPT).collect();
        let origin = if origin.is_empty() { name } else { origin };
        // The number matters only for files whose names differ in bytes that are no text.
        let mut numbered = (0..).map(|number| {
            let text = if number == 0 { (*origin).to_owned() } else { format!("{origin} {number}") };
            format!("{kept}-{}", &sha256_hex(text.as_bytes())[..DIGITS])
        });
        numbered.find(|key| used.insert(key.clone())).unwrap_or_default()
    });
    keys.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_has_its_own_key_and_a_plain_name_is_kept() {
        let long = "a".repeat(90);
        let names = [
            "cat.png",
            "犬.png",
            "猫.png",
            "cats/tabby.jpg",
            "cats_tabby.jpg",
            "Rose.jpg",
            "rose.jpg",
            "tulip.jpg",
            "tulip.png",
            "photo 1.jpg",
            "photo_1.jpg",
            "cat_on_pink.png",
            "dog_on_pink.png",
        ];
        let mut origins: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        origins.extend((0..3).map(|number| format!("{long}{number}.png")));
        origins.extend(["\u{fffd}.png".to_owned(), "\u{fffd}.png".to_owned()]);
        let images: Vec<(&str, &str)> =
            origins.iter().map(|origin| (&origin[..origin.len() - 4], origin.as_str())).collect();
        let keys = unique_keys(images.iter().copied());
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len(), "{keys:?}");
        assert!(keys.iter().all(|key| key.len() <= 80 && sanitise_key(key) == *key), "{keys:?}");
        assert_eq!((keys[0].as_str(), keys[12].as_str()), ("cat", "dog_on_pink"));
        let reversed = unique_keys(images.iter().rev().copied());
        let (mut sorted, mut again) = (keys, reversed);
        sorted.sort();
        again.sort();
        assert_eq!(sorted, again);
    }
}

//! What a recipe holds out, decided by hashes of concepts: the same for every training on the dataset.
//!
//! - A share of concepts, by [`Split::of`]: nothing of them is trained on, in no style and in no composite.
//! - Of the concepts that several designs show, a share in one design each. Variants of one design (Fluent's flat, 3d and high
//!   contrast) are held out together, since they show the same shapes.
//! - A share of pairs of concepts in composites, and of colours of a concept.

use std::collections::{BTreeMap, BTreeSet};

use dalle_data::{HeldOut, Split, hash_fraction};
use dalle_shared::sha256_hex;

use crate::recipe::HeldOutShares;

/// Designs that must show a concept, so that one of them may be held out.
const DESIGNS: usize = 4;

/// What is held out of a dataset.
pub struct Plan {
    shares: HeldOutShares,
    /// The design of each concept that is held out.
    designs: BTreeMap<String, &'static str>,
}

impl Plan {
    /// Decides for the concepts and designs of all drawings that are used.
    pub fn new<'a>(shares: &HeldOutShares, drawings: impl Iterator<Item = (&'a str, &'static str)>) -> Self {
        let mut shown: BTreeMap<&str, BTreeSet<&'static str>> = BTreeMap::new();
        for (concept, design) in drawings {
            shown.entry(concept).or_default().insert(design);
        }
        let chosen = shown.into_iter().filter(|(concept, designs)| {
            designs.len() >= DESIGNS && hash_fraction(&format!("style {concept}")) < shares.styles
        });
        let designs = chosen.filter_map(|(concept, designs)| {
            let of = |design: &&str| sha256_hex(format!("style {concept} {design}").as_bytes());
            Some((concept.to_owned(), designs.into_iter().min_by_key(of)?))
        });
        Self { shares: shares.clone(), designs: designs.collect() }
    }

    /// Why drawings of this concept in this design are held out.
    pub fn drawing(&self, concept: &str, design: &str) -> Option<HeldOut> {
        if Split::of(concept, self.shares.concepts) == Split::Val {
            return Some(HeldOut::Concept);
        }
        self.designs.get(concept).filter(|held_out| **held_out == design).map(|_| HeldOut::Style)
    }

    /// Whether the two concepts are never shown together in training, in any order.
    pub fn pair(&self, a: &str, b: &str) -> bool {
        let (first, second) = if a < b { (a, b) } else { (b, a) };
        hash_fraction(&format!("pair {first} + {second}")) < self.shares.pairs
    }

    /// Whether the concept is never called by this colour in training.
    pub fn colour(&self, concept: &str, colour: &str) -> bool {
        hash_fraction(&format!("colour {colour} {concept}")) < self.shares.pairs
    }
}

/// The split of an example that is held out for this reason.
pub fn split(held_out: Option<HeldOut>) -> Split {
    if held_out.is_some() { Split::Val } else { Split::Train }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_design_is_held_out_only_of_concepts_that_four_designs_show() {
        let shares = HeldOutShares { concepts: 0.1, styles: 0.5, pairs: 0.2 };
        let concepts: Vec<String> = (0..400).map(|number| format!("thing {number}")).collect();
        let designs = ["noto", "fluent", "twemoji", "blob", "emojione"];
        let shown = |count: usize| {
            let of = |concept| designs[..count].iter().map(move |design| (concept, *design));
            let pairs: Vec<(&str, &'static str)> = concepts.iter().map(String::as_str).flat_map(of).collect();
            pairs.into_iter()
        };
        assert!(Plan::new(&shares, shown(3)).designs.is_empty());
        let plan = Plan::new(&shares, shown(5));
        assert!((150..250).contains(&plan.designs.len()), "{}", plan.designs.len());
        for concept in &concepts {
            let reasons: Vec<_> = designs.iter().map(|design| plan.drawing(concept, design)).collect();
            let style = reasons.iter().filter(|reason| **reason == Some(HeldOut::Style)).count();
            match reasons[0] {
                Some(HeldOut::Concept) => assert!(reasons.iter().all(|r| *r == Some(HeldOut::Concept))),
                _ => assert!(style <= 1),
            }
        }
        assert_eq!(plan.pair("dog", "cat"), plan.pair("cat", "dog"));
    }
}

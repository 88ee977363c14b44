//! Recipes of datasets, `configs/data/*.json`: which packages a dataset is made of, what of them is used, and what is made of it.
//!
//! A recipe states everything that decides the bytes of a dataset, so it is checked completely before anything is fetched or
//! rendered, and the manifest of the dataset repeats it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dalle_data::DataError;
use dalle_native::image_file::read_regular_file;
use serde::{Deserialize, Serialize};

use crate::background::PALETTE;
use crate::colour::Colour;
use crate::family::{FAMILIES, Family};

/// Most bytes of a recipe.
const MAX_BYTES: u64 = 1 << 20;
/// Sides of images that recipes may ask for: composites need some pixels for each object.
const SIZES: std::ops::RangeInclusive<u32> = 32..=1024;
/// Most composites of a kind.
const MAX_COMPOSITES: usize = 1_000_000;

/// A whole recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the dataset.
    pub name: String,
    /// What the dataset is, in a sentence.
    pub description: String,
    /// Side of the images in pixels.
    pub size: u32,
    /// Most images in a shard.
    pub shard_size: usize,
    /// Seed of everything that is chosen.
    pub seed: u64,
    /// The package with the labels of the drawings.
    pub captions: Package,
    /// File with the names of the labels, relative to the recipe: see [`Names`](crate::names::Names).
    pub names: PathBuf,
    /// Packages of drawings, each in one style.
    pub sources: Vec<SourceRecipe>,
    /// Groups of emoji that are used; of each a share of its drawings, 1 for all.
    pub groups: BTreeMap<String, f64>,
    /// Subgroups of which another share is used than of their group.
    #[serde(default)]
    pub subgroups: BTreeMap<String, f64>,
    /// Things that people ask for most.
    pub common: Common,
    /// Whether skin-tone variants are used.
    pub skin_tones: bool,
    /// Coloured backgrounds.
    pub backgrounds: Backgrounds,
    /// Colour words and recoloured drawings.
    pub colours: Colours,
    /// Images of several objects, and of small and large ones.
    pub composites: Composites,
    /// What is held out.
    pub held_out: HeldOutShares,
}

/// A package in a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// The client that fetches it.
    pub client: Client,
    /// Its name.
    pub name: String,
    /// Its exact version.
    pub version: String,
    /// SPDX licence.
    pub license: String,
    /// Size of the file that the client downloads.
    pub bytes: u64,
    /// SHA-256 of that file, in hexadecimal.
    pub sha256: String,
}

/// A program that downloads packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Client {
    /// `npm pack`.
    Npm,
    /// `pip download`, for wheels.
    Pip,
    /// `apt-get download`, for Debian packages.
    AptGet,
}

/// A package of drawings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRecipe {
    /// One of [`FAMILIES`].
    pub family: String,
    /// The word for its style in captions.
    pub style: String,
    /// The package.
    pub package: Package,
    /// Share of its drawings that is used, 1 for all.
    #[serde(default = "one")]
    pub weight: f64,
    /// Whether it is drawn in one colour: names with a colour word are not used, and every caption names the style.
    #[serde(default)]
    pub monochrome: bool,
}

/// Coloured backgrounds of drawings, beside white.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backgrounds {
    /// Share of drawings that are also set on a coloured background.
    pub share: f64,
    /// The colours, by name.
    pub colours: Vec<String>,
}

/// Colour words in captions, and drawings whose colour is changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Colours {
    /// Subgroups of emoji whose colour is measured.
    pub subgroups: BTreeSet<String>,
    /// Labels of drawings whose colour is not that of the object: scenes on a coloured ground, animals known by two colours.
    pub without: BTreeSet<String>,
    /// Share of what is drawn that must have a colour to be called by it.
    pub dominance: f64,
    /// The same share for black, white and grey, which are the colours of outlines and highlights too.
    pub neutral_dominance: f64,
    /// In how many other colours a drawing of one colour is also stored.
    pub recoloured: usize,
}

/// Everyday things, of which a dataset shows more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Common {
    /// Their labels. Composites may use them whatever their subgroup.
    pub labels: BTreeSet<String>,
    /// Share of composites that show only these.
    pub composites: f64,
    /// In how many other colours each of their drawings is also stored.
    pub recoloured: usize,
}

/// Images made of several drawings of one style.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Composites {
    /// Subgroups of emoji that are used: objects that stand alone, not scenes.
    pub subgroups: BTreeSet<String>,
    /// Pairs with a relation: left of, right of, above, below.
    pub pairs: usize,
    /// Two to four of one object.
    pub counts: usize,
    /// Small and large objects.
    pub sizes: usize,
    /// Share of composites on a coloured background.
    pub coloured: f64,
    /// Least size of an object's longer side, in cells of the token grid.
    pub cells: u32,
    /// Pixels of a cell: the dVAE's factor of reduction.
    pub cell: u32,
}

/// Shares that are held out, each chosen by a hash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOutShares {
    /// Share of concepts of which no training image shows anything.
    pub concepts: f64,
    /// Share of the concepts that enough styles show, one of whose styles is held out.
    pub styles: f64,
    /// Share of pairs of concepts in composites, and of colours of a concept.
    pub pairs: f64,
}

fn one() -> f64 {
    1.0
}

impl Recipe {
    /// Reads and checks a recipe. The path of `names` is then relative to the current folder.
    ///
    /// # Errors
    /// The file cannot be read, a field is missing, unknown or out of range.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let bytes = read_regular_file(path, MAX_BYTES)
            .map_err(|error| DataError::io("reading", path)(std::io::Error::other(error)))?;
        let json = &mut serde_json::Deserializer::from_slice(&bytes);
        let mut recipe: Self = serde_path_to_error::deserialize(json).map_err(|error| {
            let field = error.path().to_string();
            let place = if field == "." { String::new() } else { format!("`{field}`: ") };
            DataError::malformed(path, format!("{place}{}", error.into_inner()))
        })?;
        recipe.check().map_err(|message| DataError::malformed(path, message))?;
        recipe.names = path.parent().unwrap_or(Path::new("")).join(&recipe.names);
        Ok(recipe)
    }

    /// All packages, that of the captions first.
    pub fn packages(&self) -> impl Iterator<Item = &Package> {
        std::iter::once(&self.captions).chain(self.sources.iter().map(|source| &source.package))
    }

    /// The message of an error names the field, what was expected and what was received.
    fn check(&self) -> Result<(), String> {
        if !SIZES.contains(&self.size) {
            return Err(format!(
                "`size`: expected {} to {} pixels, got {}",
                SIZES.start(),
                SIZES.end(),
                self.size
            ));
        }
        if self.shard_size == 0 {
            return Err("`shard_size`: expected at least one image in a shard, got 0".to_owned());
        }
        if self.sources.is_empty() {
            return Err("`sources`: expected at least one package of drawings, got none".to_owned());
        }
        let mut families = BTreeSet::new();
        for (index, source) in self.sources.iter().enumerate() {
            let family =
                source.family().map_err(|message| format!("`sources[{index}].family`: {message}"))?;
            if !families.insert(family.name) {
                return Err(format!(
                    "`sources[{index}].family`: expected each family once, got `{}` again",
                    family.name
                ));
            }
            if source.package.name != family.package {
                let (expected, got) = (family.package, &source.package.name);
                return Err(format!("`sources[{index}].package.name`: expected `{expected}`, got `{got}`"));
            }
            if source.style.is_empty() {
                return Err(format!("`sources[{index}].style`: expected a word, got none"));
            }
            share(&format!("sources[{index}].weight"), source.weight)?;
        }
        self.packages().enumerate().try_for_each(|(index, package)| package.check(index))?;
        if self.groups.is_empty() {
            return Err("`groups`: expected at least one group of emoji, got none".to_owned());
        }
        for (group, weight) in &self.groups {
            share(&format!("groups.{group}"), *weight)?;
        }
        for (index, colour) in self.backgrounds.colours.iter().enumerate() {
            if !PALETTE.iter().any(|background| background.name == colour) {
                let names: Vec<&str> = PALETTE.iter().map(|background| background.name).collect();
                return Err(format!(
                    "`backgrounds.colours[{index}]`: expected one of {}, got `{colour}`",
                    names.join(", ")
                ));
            }
        }
        let Composites { pairs, counts, sizes, cells, cell, .. } = self.composites;
        for (field, count) in [("pairs", pairs), ("counts", counts), ("sizes", sizes)] {
            if count > MAX_COMPOSITES {
                return Err(format!("`composites.{field}`: expected at most {MAX_COMPOSITES}, got {count}"));
            }
        }
        // Four objects stand in two rows of two.
        let most = self.size / 2;
        if cell == 0 || cells == 0 || cells.saturating_mul(cell) > most {
            return Err(format!(
                "`composites.cells`: expected objects of 1 to {most} pixels, half of the image, got {cells} cells of {cell} pixels"
            ));
        }
        share("backgrounds.share", self.backgrounds.share)?;
        share("colours.dominance", self.colours.dominance)?;
        for (field, got) in
            [("colours.recoloured", self.colours.recoloured), ("common.recoloured", self.common.recoloured)]
        {
            let most = Colour::ALL.len() - 1;
            if got > most {
                return Err(format!("`{field}`: expected at most {most} other colours, got {got}"));
            }
        }
        for (subgroup, weight) in &self.subgroups {
            share(&format!("subgroups.{subgroup}"), *weight)?;
        }
        share("common.composites", self.common.composites)?;
        share("colours.neutral_dominance", self.colours.neutral_dominance)?;
        share("composites.coloured", self.composites.coloured)?;
        for (field, value) in [
            ("held_out.concepts", self.held_out.concepts),
            ("held_out.styles", self.held_out.styles),
            ("held_out.pairs", self.held_out.pairs),
        ] {
            share(field, value)?;
            if value == 1.0 {
                return Err(format!(
                    "`{field}`: expected a share below 1, so that something is left to train on"
                ));
            }
        }
        Ok(())
    }
}

impl SourceRecipe {
    /// Its family.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn family(&self) -> Result<&'static Family, String> {
        FAMILIES.iter().find(|family| family.name == self.family).ok_or_else(|| {
            let known: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
            format!("expected one of {}, got `{}`", known.join(", "), self.family)
        })
    }
}

impl Package {
    /// `index` counts the packages of the recipe from that of the captions.
    fn check(&self, index: usize) -> Result<(), String> {
        let field = match index.checked_sub(1) {
            None => "captions".to_owned(),
            Some(source) => format!("sources[{source}].package"),
        };
        // These become arguments of programs and names of folders.
        let allowed = |c: char| c.is_ascii_alphanumeric() || "@/._+:~-".contains(c);
        for (part, text) in [("name", &self.name), ("version", &self.version)] {
            let plain = !text.is_empty() && text.chars().all(allowed) && !text.contains("..");
            if !plain || text.starts_with(['-', '/', '.']) {
                return Err(format!(
                    "`{field}.{part}`: expected letters, digits and `@/._+:~-`, got `{text}`"
                ));
            }
        }
        if self.license.is_empty() {
            return Err(format!("`{field}.license`: expected an SPDX licence, got none"));
        }
        if self.sha256.len() != 64 || !self.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("`{field}.sha256`: expected 64 hexadecimal digits, got `{}`", self.sha256));
        }
        Ok(())
    }
}

/// Refuses what is not a share.
fn share(field: &str, value: f64) -> Result<(), String> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(format!("`{field}`: expected a share from 0 to 1, got {value}"))
    }
}

//! Emoji families as sources: packages found, drawings joined to labels, the unwanted left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dalle_data::{Captions, DataError, PackageInfo, Reason, SourceInfo};
use serde_json::{Value, json};

use crate::content::Content;
use crate::emojibase::{self, Emoji, Emojibase};
use crate::family::{Family, Format};
use crate::iconify::{self, Icon};
use crate::package::{Package, Packages};
use crate::render::Art;
use crate::source::{Input, LeftOut, RawExample, Source};

/// Groups left out unless asked for: hundreds of nearly equal flags, lettered buttons, parts of emoji.
const UNWANTED_GROUPS: [&str; 3] = ["flags", "symbols", "component"];

/// Emoji in unpacked npm packages.
#[derive(Clone, Debug)]
pub struct EmojiPackages {
    /// The folder that holds the packages.
    pub root: PathBuf,
    /// Families, in the order of the manifest.
    pub families: Vec<&'static Family>,
    /// Groups; none stands for all but flags, symbols and parts of emoji.
    pub groups: Option<Vec<String>>,
    /// Whether skin-tone variants are wanted.
    pub skin_tones: bool,
}

impl EmojiPackages {
    /// Finds the packages. Each family is a source.
    ///
    /// # Errors
    /// A package is missing or malformed, or a group is unknown.
    pub fn sources(&self) -> Result<Vec<Box<dyn Source>>, DataError> {
        let packages = Packages::find(&self.root)?;
        let captions = packages.get(emojibase::PACKAGE)?;
        let emojibase = Emojibase::read(&captions.folder)?;
        let groups = wanted_groups(&emojibase, self.groups.as_deref())?;
        let labels = Arc::new(Labels { emojibase, package: captions.info, groups });
        let source = |family: &&'static Family| {
            let mut package = packages.get(family.package)?;
            package.info.author = family.artist.map(str::to_owned).or(package.info.author);
            let (selection, labels) = (self.clone(), Arc::clone(&labels));
            Ok(Box::new(EmojiFamily { family, package, selection, labels }) as Box<dyn Source>)
        };
        self.families.iter().map(source).collect()
    }
}

impl EmojiPackages {
    /// Checks that emojibase has these subgroups.
    ///
    /// # Errors
    /// A subgroup is unknown, or emojibase is missing or malformed.
    pub fn check_subgroups<'a>(&self, mut subgroups: impl Iterator<Item = &'a str>) -> Result<(), DataError> {
        let emojibase = Emojibase::read(&Packages::find(&self.root)?.get(emojibase::PACKAGE)?.folder)?;
        let known = emojibase.subgroups();
        match subgroups.find(|subgroup| !known.iter().any(|known| known == subgroup)) {
            None => Ok(()),
            Some(unknown) => Err(DataError::Option {
                option: "recipe",
                message: format!("`subgroups`: expected some of {}, got `{unknown}`", known.join(", ")),
            }),
        }
    }
}

/// Labels of emoji, and the groups that are wanted.
struct Labels {
    emojibase: Emojibase,
    package: PackageInfo,
    groups: BTreeSet<String>,
}

/// The emoji of one family.
struct EmojiFamily {
    family: &'static Family,
    package: Package,
    selection: EmojiPackages,
    labels: Arc<Labels>,
}

impl Source for EmojiFamily {
    fn info(&self) -> SourceInfo {
        SourceInfo {
            name: self.family.name.to_owned(),
            license: self.package.info.license.clone(),
            package: Some(self.package.info.clone()),
            captions: Some(self.labels.package.clone()),
            options: BTreeMap::from([
                ("groups".to_owned(), json!(self.labels.groups)),
                ("skin_tones".to_owned(), json!(self.selection.skin_tones)),
            ]),
        }
    }

    fn inputs(&self) -> Vec<Input> {
        vec![Input { option: "packages", path: self.selection.root.clone(), everything: false }]
    }

    fn examples(&self) -> Result<Box<dyn Iterator<Item = Result<RawExample, LeftOut>> + '_>, DataError> {
        let icons = match self.family.format {
            Format::Iconify => iconify::read(&self.package.folder)?,
            Format::Bitmaps(folder) => bitmaps(&self.package.folder.join(folder))?,
        };
        Ok(Box::new(icons.into_iter().map(|icon| self.example(icon))))
    }
}

impl EmojiFamily {
    fn example(&self, icon: Icon) -> Result<RawExample, LeftOut> {
        let package = &self.package.info;
        let origin = format!("{}@{}: {}", package.name, package.version, icon.name);
        if icon.hidden {
            return Err(LeftOut::unwanted(Reason::Superseded));
        }
        let Some(emoji) = join(&icon, &self.labels.emojibase) else {
            let message = "emojibase has no emoji of these code points or this name";
            return Err(LeftOut::unusable(Reason::NoCaption, origin, message));
        };
        if emoji.skin_tone && !self.selection.skin_tones {
            return Err(LeftOut::unwanted(Reason::SkinTone));
        }
        if !self.labels.groups.contains(&emoji.group) {
            return Err(LeftOut::unwanted(Reason::Group));
        }
        let name = format!("{}_{}", self.family.name, icon.name);
        // A style is worth naming only if there is another.
        let captions = captions_of(emoji, self.family, self.selection.families.len() > 1);
        let extra = [
            ("family", self.family.name),
            ("style", self.family.style),
            ("group", &emoji.group),
            ("subgroup", &emoji.subgroup),
            ("hexcode", &emoji.hexcode),
        ];
        Ok(RawExample {
            concept: emoji.concept.clone(),
            extra: extra.map(|(name, value)| (name.to_owned(), Value::from(value))).into(),
            ..RawExample::new(name, origin, icon.art, captions)
        })
    }
}

fn wanted_groups(emojibase: &Emojibase, asked: Option<&[String]>) -> Result<BTreeSet<String>, DataError> {
    let known = emojibase.groups();
    let Some(asked) = asked else {
        return Ok(known
            .iter()
            .filter(|group| !UNWANTED_GROUPS.contains(&group.as_str()))
            .cloned()
            .collect());
    };
    if let Some(group) = asked.iter().find(|group| !known.contains(group)) {
        return Err(DataError::Option {
            option: "groups",
            message: format!("expected some of {}, got `{group}`", known.join(", ")),
        });
    }
    Ok(asked.iter().cloned().collect())
}

/// By code points; else by name; else by another name of the same drawing; else by the name without the number that
/// tells variants apart (`cactus-2`).
fn join<'a>(icon: &Icon, emojibase: &'a Emojibase) -> Option<&'a Emoji> {
    let by_points = icon.code_points.as_deref().and_then(|points| emojibase.by_code_points(points));
    let names = || std::iter::once(icon.name.as_str()).chain(icon.synonyms.iter().map(String::as_str));
    let by_name = || names().find_map(|name| emojibase.by_slug(name));
    let by_variant = || names().find_map(|name| emojibase.by_slug(variant_of(name)?));
    by_points.or_else(by_name).or_else(by_variant)
}

fn variant_of(name: &str) -> Option<&str> {
    let (name, number) = name.rsplit_once('-')?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

fn captions_of(emoji: &Emoji, family: &Family, name_style: bool) -> Captions {
    let mut templates = vec!["{label}".to_owned(), "{label}, {tag}, {tag}".to_owned()];
    if name_style {
        let article = if family.style.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        templates.push(format!("{article} {} emoji of {{label}}", family.style));
    }
    let is_new = |tag: &&String| !tag.eq_ignore_ascii_case(&emoji.label);
    Captions {
        label: emoji.label.clone(),
        tags: emoji.tags.iter().filter(is_new).cloned().collect(),
        templates,
        ..Captions::default()
    }
}

/// Bitmaps named by their code points.
fn bitmaps(folder: &Path) -> Result<Vec<Icon>, DataError> {
    let mut icons = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io("listing", folder))? {
        let path = entry.map_err(DataError::io("listing", folder))?.path();
        let Some(name) = path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned) else { continue };
        icons.push(Icon {
            code_points: Some(name.clone()),
            name,
            synonyms: Vec::new(),
            art: Art::file(Content::File(path.clone()), &path.to_string_lossy()),
            hidden: false,
        });
    }
    icons.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(icons)
}

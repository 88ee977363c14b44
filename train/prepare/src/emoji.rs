//! Emoji families as a source: packages found, drawings joined to labels, the unwanted left out.

use std::collections::BTreeSet;
use std::path::Path;

use dalle_data::{Captions, DataError, PackageInfo, Reason, SourceSummary, Split, sanitise_key};

use super::emojibase::{self, Emoji, Emojibase};
use super::family::{Family, Format};
use super::iconify::{self, Icon};
use super::package::{Package, Packages};
use super::render::Art;
use super::source::{Drawing, Source};

/// Groups left out unless asked for: hundreds of nearly equal flags, lettered buttons, parts of emoji.
pub const UNWANTED_GROUPS: [&str; 3] = ["flags", "symbols", "component"];

/// Which emoji are wanted.
pub struct Selection<'a> {
    /// Families, in the order of the manifest.
    pub families: &'a [&'static Family],
    /// Groups; none stands for all but [`UNWANTED_GROUPS`].
    pub groups: Option<&'a [String]>,
    /// Whether skin-tone variants are wanted.
    pub skin_tones: bool,
    /// Share of concepts held out.
    pub val_share: f64,
}

/// Reads the wanted drawings of every wanted family. Also returns the package that the captions come from.
///
/// # Errors
/// A package is missing or malformed, or a group is unknown.
pub fn read(root: &Path, selection: &Selection) -> Result<(Vec<Source>, PackageInfo), DataError> {
    let packages = Packages::find(root)?;
    let captions = packages.get(emojibase::PACKAGE)?;
    let emojibase = Emojibase::read(&captions.folder)?;
    let groups = wanted_groups(&emojibase, selection.groups)?;
    // A style is worth naming only where there is another.
    let name_style = selection.families.len() > 1;
    let sources = selection.families.iter().map(|family| {
        let mut package = packages.get(family.package)?;
        package.info.author = family.artist.map(str::to_owned).or(package.info.author);
        let icons = match family.format {
            Format::Iconify => iconify::read(&package.folder)?,
            Format::Bitmaps(folder) => bitmaps(&package.folder.join(folder))?,
        };
        let mut source = Source::new(SourceSummary::new(
            family.name,
            family.style,
            &package.info.license,
            Some(package.info.clone()),
        ));
        for icon in icons {
            let emoji = match wanted(&icon, &emojibase, &groups, selection.skin_tones) {
                Ok(emoji) => emoji,
                Err(Reason::NoCaption) => {
                    let message = "emojibase has no emoji of these code points or this name".to_owned();
                    source.fail(Reason::NoCaption, source_of(&package, &icon.name), message);
                    continue;
                }
                Err(reason) => {
                    source.summary.leave_out(reason);
                    continue;
                }
            };
            source.drawings.push(Drawing {
                key: sanitise_key(&format!("{}_{}", family.name, icon.name)),
                captions: captions_of(emoji, family, name_style),
                concept: emoji.concept.clone(),
                split: Split::of(&emoji.concept, selection.val_share),
                hexcode: Some(emoji.hexcode.clone()),
                license: package.info.license.clone(),
                source: source_of(&package, &icon.name),
                art: icon.art,
            });
        }
        Ok(source)
    });
    Ok((sources.collect::<Result<_, DataError>>()?, captions.info))
}

fn source_of(package: &Package, name: &str) -> String {
    format!("{}@{}: {name}", package.info.name, package.info.version)
}

fn wanted_groups<'a>(
    emojibase: &'a Emojibase,
    asked: Option<&'a [String]>,
) -> Result<BTreeSet<&'a str>, DataError> {
    let known = || emojibase.groups().iter().map(String::as_str);
    let Some(asked) = asked else {
        return Ok(known().filter(|group| !UNWANTED_GROUPS.contains(group)).collect());
    };
    for group in asked {
        if !known().any(|known| known == group) {
            let known: Vec<&str> = known().collect();
            return Err(DataError::Option {
                option: "groups",
                message: format!("expected some of {}, got `{group}`", known.join(", ")),
            });
        }
    }
    Ok(asked.iter().map(String::as_str).collect())
}

/// The emoji that an icon draws, or why it is left out.
fn wanted<'a>(
    icon: &Icon,
    emojibase: &'a Emojibase,
    groups: &BTreeSet<&str>,
    skin_tones: bool,
) -> Result<&'a Emoji, Reason> {
    if icon.hidden {
        return Err(Reason::Superseded);
    }
    let emoji = join(icon, emojibase).ok_or(Reason::NoCaption)?;
    if emoji.skin_tone && !skin_tones {
        return Err(Reason::SkinTone);
    }
    if !groups.contains(emoji.group.as_str()) {
        return Err(Reason::Group);
    }
    Ok(emoji)
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
        family: family.name.to_owned(),
        style: family.style.to_owned(),
        group: emoji.group.clone(),
        subgroup: emoji.subgroup.clone(),
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
            art: Art::File(path),
            hidden: false,
        });
    }
    icons.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(icons)
}

//! `dalle data build --recipe`: a dataset folder as a recipe describes it.
//!
//! ```text
//! packages ─▶ drawings with names ─▶ held out or not ─┬─▶ drawing: on white, on a colour, in another colour ─┐
//!                                                     └─▶ scene: pairs, counts, sizes ──────────────────────┴─▶ store
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use dalle_data::{DataError, MANIFEST, Manifest, Options, Reason, check_apart, hash_fraction};
use dalle_native::publish::NewFolder;
use dalle_shared::files::VOCABULARY;
use dalle_shared::sha256_hex;
use indicatif::ProgressBar;

use crate::background::PALETTE;
use crate::build::in_order;
use crate::colour::Palette;
use crate::drawing::{Context, Drawing, without_colours};
use crate::emoji::EmojiPackages;
use crate::held_out::Plan;
use crate::names::Names;
use crate::recipe::Recipe;
use crate::scene::{self, Composite, composites};
use crate::source::{LeftOut, Source};
use crate::store::{Rendered, Tally, store_all};
use crate::vocabulary::vocabulary;

/// Builds the dataset folder `out` from the packages in a folder, and returns its manifest. The same recipe and packages give
/// the same bytes, however many threads render.
///
/// # Errors
/// A package is missing or of another version or licence than in the recipe, a group or subgroup is unknown, the names cannot be
/// read, nothing is left to store, or a file cannot be written. `out` is then as it was.
pub fn build_recipe(
    recipe: &Recipe,
    packages: &Path,
    out: &Path,
    overwrite: bool,
    progress: &ProgressBar,
) -> Result<Manifest, DataError> {
    let names = Names::read(&recipe.names)?;
    let families = recipe.sources.iter().map(|source| source.family());
    let families = families
        .collect::<Result<Vec<_>, _>>()
        .map_err(|message| DataError::Option { option: "recipe", message })?;
    let emoji = EmojiPackages {
        root: packages.to_owned(),
        families,
        groups: Some(recipe.groups.keys().cloned().collect()),
        skin_tones: recipe.skin_tones,
    };
    let subgroups = recipe.colours.subgroups.iter().chain(&recipe.composites.subgroups);
    let subgroups = subgroups.chain(recipe.subgroups.keys());
    emoji.check_subgroups(subgroups.map(String::as_str))?;
    let sources = emoji.sources()?;
    check_versions(recipe, &sources)?;
    let inputs = sources.iter().flat_map(|source| source.inputs());
    check_apart(("out", out), inputs.map(|input| (input.option, input.path, input.everything)))?;
    let folder = NewFolder::begin(out, MANIFEST, overwrite)?;
    let mut tally = Tally::new(&sources);
    let mut drawings = drawings(recipe, &names, &sources, &mut tally)?;
    let designs = drawings.iter().map(|drawing| (drawing.concept(), emoji.families[drawing.source].design));
    let plan = Plan::new(&recipe.held_out, designs);
    for drawing in &mut drawings {
        drawing.held_out = plan.drawing(drawing.concept(), emoji.families[drawing.source].design);
    }
    let backgrounds = PALETTE
        .into_iter()
        .filter(|background| recipe.backgrounds.colours.iter().any(|name| name == background.name));
    let vocabulary = serde_json::to_vec_pretty(&vocabulary(recipe, &drawings))
        .map_err(DataError::json("a vocabulary", folder.path()))?;
    folder.write(VOCABULARY, &vocabulary)?;
    let context =
        Context { recipe, plan: &plan, palette: Palette::new(), backgrounds: backgrounds.collect() };
    let composites = composites(&context, &drawings);
    let jobs = jobs(recipe.seed, &drawings, &composites);
    let render = |job: &Job| match job {
        Job::Drawing(drawing) => Rendered {
            source: drawing.source,
            origin: Some(drawing.image.example.origin.clone()),
            entries: context.render(drawing),
            enlarged: false,
        },
        Job::Composite(composite) => Rendered {
            source: scene::source_of(&drawings, composite),
            origin: None,
            entries: scene::render(&context, &drawings, composite),
            enlarged: false,
        },
    };
    let options = Options {
        size: recipe.size,
        shard_size: recipe.shard_size,
        backgrounds: 0,
        val_share: recipe.held_out.concepts,
        seed: recipe.seed,
    };
    let json = serde_json::to_value(recipe).map_err(DataError::json("a recipe", &recipe.names))?;
    store_all(folder, (&options, Some(json)), tally, &jobs, render, progress)
}

/// What is rendered by itself.
enum Job<'a> {
    Drawing(&'a Drawing),
    Composite(&'a Composite),
}

/// All jobs in an order that mixes them and depends on the seed and the keys alone.
fn jobs<'a>(seed: u64, drawings: &'a [Drawing], composites: &'a [Composite]) -> Vec<Job<'a>> {
    let drawings = drawings.iter().map(|drawing| (&drawing.image.key, Job::Drawing(drawing)));
    let composites = composites.iter().map(|composite| (&composite.key, Job::Composite(composite)));
    let mut jobs: Vec<(&String, Job)> = drawings.chain(composites).collect();
    jobs.sort_by_cached_key(|(key, _)| sha256_hex(format!("{seed} {key}").as_bytes()));
    jobs.into_iter().map(|(_, job)| job).collect()
}

/// The drawings that the recipe uses, in an order that depends on the seed.
fn drawings(
    recipe: &Recipe,
    names: &Names,
    sources: &[Box<dyn Source>],
    tally: &mut Tally,
) -> Result<Vec<Drawing>, DataError> {
    let mut drawings = Vec::new();
    for image in in_order(sources, tally, recipe.seed)? {
        let source = image.source;
        let listed = names.of(&image.example.captions.label).unwrap_or_default();
        let names = if recipe.sources[source].monochrome { without_colours(listed) } else { listed.to_vec() };
        if names.is_empty() {
            tally.leave_out(source, LeftOut::unwanted(Reason::NoName));
            continue;
        }
        let license =
            image.example.license.clone().unwrap_or_else(|| tally.sources[source].info.license.clone());
        let drawing = Drawing { image, names, source, held_out: None, license };
        let group = recipe.subgroups.get(drawing.extra("subgroup"));
        let group = group.or_else(|| recipe.groups.get(drawing.extra("group")));
        let weight = recipe.sources[source].weight * group.copied().unwrap_or(0.0);
        if hash_fraction(&format!("{} weight {}", recipe.seed, drawing.image.key)) >= weight {
            tally.leave_out(source, LeftOut::unwanted(Reason::Weight));
            continue;
        }
        drawings.push(drawing);
    }
    Ok(drawings)
}

/// Checks that the packages are those of the recipe.
fn check_versions(recipe: &Recipe, sources: &[Box<dyn Source>]) -> Result<(), DataError> {
    let mut found = BTreeMap::new();
    for source in sources {
        let info = source.info();
        found.extend(
            [info.package, info.captions].into_iter().flatten().map(|info| (info.name.clone(), info)),
        );
    }
    for package in recipe.packages() {
        let Some(info) = found.get(&package.name) else { continue };
        for (what, expected, got) in
            [("version", &package.version, &info.version), ("licence", &package.license, &info.license)]
        {
            if expected != got {
                let message = format!(
                    "package `{}`: expected {what} {expected} as in the recipe, got {got}; fetch the packages of the recipe \
                     into another folder with `dalle data fetch`",
                    package.name
                );
                return Err(DataError::Option { option: "packages", message });
            }
        }
    }
    Ok(())
}

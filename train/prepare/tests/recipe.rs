//! `dalle data build --recipe`: recipes that are refused, and what a recipe makes of small packages.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod data_support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dalle_data::{Dataset, Example, HeldOut, Manifest, Split, Subset, hash_fraction};
use dalle_prepare::{Recipe, build_recipe};
use data_support::{Packages, contents, family, rectangle, write};
use indicatif::ProgressBar;
use serde_json::{Value, json};

const NAMES: &str = r#"{
    "red apple": ["a red apple", "an apple"], "green apple": ["a green apple"], "cat": ["a cat", "a kitten"],
    "red heart": ["a red heart", "a heart"], "raised hand": ["a raised hand", "a hand"]
}"#;

fn package(name: &str, version: &str, license: &str) -> Value {
    let sha256 = "0".repeat(64);
    json!({"client": "npm", "name": name, "version": version, "license": license, "bytes": 1, "sha256": sha256})
}

/// A recipe that uses everything of [`Packages`] in these families and holds out nothing.
fn recipe(families: &[&str]) -> Value {
    let sources = families.iter().map(|name| {
        let package = package(family(name).package, "1.2.3", "Apache-2.0");
        json!({"family": name, "style": family(name).style, "package": package})
    });
    json!({
        "name": "test", "description": "Drawings for tests.", "size": 64, "shard_size": 50, "seed": 3,
        "captions": package("emojibase-data", "17.0.0", "MIT"), "names": "names.json",
        "sources": sources.collect::<Vec<_>>(),
        "groups": {"people-body": 1.0, "food-drink": 1.0, "animals-nature": 1.0}, "skin_tones": false,
        "common": {"labels": ["cat"], "composites": 0.2, "recoloured": 2},
        "backgrounds": {"share": 1.0, "colours": ["pink", "light blue"]},
        "colours": {"subgroups": ["any"], "without": [], "dominance": 0.6, "neutral_dominance": 0.6, "recoloured": 1},
        "composites": {
            "subgroups": ["any"], "pairs": 60, "counts": 20, "sizes": 20, "coloured": 0.3, "cells": 3, "cell": 8
        },
        "held_out": {"concepts": 0.0, "styles": 0.0, "pairs": 0.0}
    })
}

/// Packages with the same five drawings in each family.
fn packages(families: &[&str]) -> Packages {
    let packages = Packages::new();
    for family in families {
        let icons = [
            ("red-apple", rectangle("#e02024", 0, 0, 9, 8)),
            ("green-apple", rectangle("#46a046", 0, 0, 9, 9)),
            ("cat", rectangle("#f06e14", 0, 0, 6, 9)),
            ("red-heart", rectangle("#b41424", 0, 0, 9, 7)),
            ("raised-hand", rectangle("#fcd232", 0, 0, 5, 9)),
        ];
        let icons: Vec<(&str, &str)> = icons.iter().map(|(name, body)| (*name, body.as_str())).collect();
        packages.icons(family, &icons, &[], &json!({}));
    }
    packages
}

/// Writes a recipe with its names beside the packages.
fn save(packages: &Packages, recipe: &Value) -> PathBuf {
    write(&packages.root().join("recipes/names.json"), NAMES);
    let path = packages.root().join("recipes/recipe.json");
    write(&path, &recipe.to_string());
    path
}

fn build(packages: &Packages, recipe: &Value, out: &str) -> (Manifest, Dataset) {
    let recipe = Recipe::read(&save(packages, recipe)).unwrap();
    let out = packages.root().join(out);
    let modules = packages.root().join("node_modules");
    let manifest = build_recipe(&recipe, &modules, &out, false, &ProgressBar::hidden()).unwrap();
    (manifest, Dataset::open(&out).unwrap())
}

/// All captions that training may read of an example.
fn captions(example: &Example) -> BTreeSet<String> {
    let mut rng = dalle_data::random::stream(1, dalle_data::random::Purpose::Caption, 0);
    (0..300).map(|_| example.captions.sample(&mut rng)).collect()
}

#[test]
fn the_shipped_recipe_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/data/drawings.json");
    let recipe = Recipe::read(&path).unwrap();
    assert_eq!(recipe.packages().count(), 9);
    assert!(recipe.names.is_file());
}

#[test]
fn a_wrong_recipe_is_refused_by_the_name_of_its_field() {
    let packages = Packages::new();
    let wrong = |pointer: &str, value: Value| {
        let mut recipe = recipe(&["noto", "twemoji"]);
        *recipe.pointer_mut(pointer).unwrap() = value;
        Recipe::read(&save(&packages, &recipe)).unwrap_err().to_string()
    };
    for (pointer, value, expected) in [
        ("/size", json!(5000), "`size`: expected 32 to 1024 pixels, got 5000"),
        ("/size", json!("large"), "`size`: invalid type"),
        ("/shard_size", json!(0), "`shard_size`"),
        ("/sources", json!([]), "`sources`: expected at least one package"),
        ("/sources/1/family", json!("apple"), "`sources[1].family`: expected one of noto, blob"),
        ("/sources/1/family", json!("noto"), "`sources[1].family`: expected each family once, got `noto`"),
        (
            "/sources/0/package/name",
            json!("left-pad"),
            "`sources[0].package.name`: expected `@iconify-json/noto`",
        ),
        ("/sources/0/package/version", json!("--evil"), "`sources[0].package.version`"),
        ("/sources/0/package/version", json!("1; rm -rf"), "`sources[0].package.version`"),
        ("/captions/name", json!("../../etc"), "`captions.name`"),
        ("/sources/0/package/client", json!("curl"), "expected one of `npm`, `pip`, `apt-get`"),
        (
            "/sources/0/package/sha256",
            json!("abc"),
            "`sources[0].package.sha256`: expected 64 hexadecimal digits",
        ),
        ("/sources/0/style", json!(""), "`sources[0].style`"),
        ("/groups", json!({}), "`groups`"),
        ("/groups/food-drink", json!(1.5), "`groups.food-drink`: expected a share from 0 to 1, got 1.5"),
        ("/backgrounds/share", json!(-0.1), "`backgrounds.share`"),
        ("/backgrounds/colours/0", json!("puce"), "`backgrounds.colours[0]`: expected one of light blue"),
        ("/colours/recoloured", json!(11), "`colours.recoloured`: expected at most 10"),
        ("/common/composites", json!(2), "`common.composites`: expected a share"),
        ("/composites/cells", json!(5), "`composites.cells`: expected objects of 1 to 32 pixels"),
        ("/composites/pairs", json!(9_000_000), "`composites.pairs`: expected at most 1000000"),
        ("/held_out/concepts", json!(1.0), "`held_out.concepts`: expected a share below 1"),
    ] {
        let message = wrong(pointer, value);
        assert!(message.contains(expected), "{pointer}: {message}");
        assert!(message.contains("recipe.json"), "{message}");
    }
    let mut unknown = recipe(&["noto"]);
    unknown["held_out"]["style"] = json!(0.1);
    let message = Recipe::read(&save(&packages, &unknown)).unwrap_err().to_string();
    assert!(
        message.contains("unknown field `style`, expected one of `concepts`, `styles`, `pairs`"),
        "{message}"
    );
    let cut = packages.root().join("cut.json");
    write(&cut, "{\"name\": \"drawings\",");
    assert!(Recipe::read(&cut).unwrap_err().to_string().contains("line 1"));
    assert!(Recipe::read(packages.root()).is_err(), "a folder");
}

#[test]
fn packages_of_another_version_and_unknown_groups_are_refused() {
    let packages = packages(&["noto"]);
    let wrong = |pointer: &str, value: Value| {
        let mut recipe = recipe(&["noto"]);
        *recipe.pointer_mut(pointer).unwrap() = value;
        let recipe = Recipe::read(&save(&packages, &recipe)).unwrap();
        let (modules, out) = (packages.root().join("node_modules"), packages.root().join("out"));
        let error = build_recipe(&recipe, &modules, &out, false, &ProgressBar::hidden()).unwrap_err();
        assert!(!out.exists());
        error.to_string()
    };
    let version = wrong("/sources/0/package/version", json!("1.0.0"));
    assert!(version.contains("expected version 1.0.0") && version.contains("got 1.2.3"), "{version}");
    let license = wrong("/captions/license", json!("GPL-2.0"));
    assert!(license.contains("`emojibase-data`: expected licence GPL-2.0"), "{license}");
    let group = wrong("/groups", json!({"fruit": 1.0}));
    assert!(group.contains("`fruit`") && group.contains("food-drink"), "{group}");
    let subgroup = wrong("/colours/subgroups", json!(["fruit"]));
    assert!(subgroup.contains("`subgroups`: expected some of any, got `fruit`"), "{subgroup}");
}

#[test]
fn the_same_recipe_gives_the_same_bytes_with_any_number_of_threads() {
    let packages = packages(&["noto", "twemoji"]);
    let outs = [1, 3].map(|threads| {
        let out = format!("out-{threads}");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| build(&packages, &recipe(&["noto", "twemoji"]), &out));
        contents(&packages.root().join(out))
    });
    assert_eq!(outs[0], outs[1]);
    let mut other = recipe(&["noto", "twemoji"]);
    other["seed"] = json!(4);
    build(&packages, &other, "other");
    assert_ne!(outs[0]["shard-000000.tar"], contents(&packages.root().join("other"))["shard-000000.tar"]);
}

#[test]
fn captions_name_what_is_drawn_its_colour_style_and_background() {
    let packages = packages(&["noto", "twemoji"]);
    let (manifest, dataset) = build(&packages, &recipe(&["noto", "twemoji"]), "out");
    let of = |key: &str| captions(dataset.get(key).unwrap());
    let cat = of("noto_cat");
    for caption in
        ["a cat", "the cat", "cat", "a kitten", "an orange cat", "a cat, noto style", "a noto emoji of a cat"]
    {
        assert!(cat.contains(caption), "{caption} not in {cat:?}");
    }
    assert!(
        cat.contains("a cat on a white background") && !cat.iter().any(|caption| caption.contains("pink"))
    );
    assert!(
        of("noto_red-apple").contains("a red apple") && !of("noto_red-apple").contains("a red red apple")
    );
    let coloured: Vec<&Example> =
        dataset.examples.iter().filter(|example| example.key.contains("_on_")).collect();
    assert_eq!(coloured.len(), 10);
    for example in coloured {
        let background = example.captions.background.clone().unwrap();
        let words: &[&str] = if background == "pink" { &["pink"] } else { &["light blue", "blue"] };
        for caption in captions(example) {
            let named = words.iter().any(|word| caption.contains(&format!("on a {word} background")));
            assert!(named, "{}: {caption}", example.key);
        }
        assert_ne!(example.image().unwrap().get_pixel(0, 0).0, [255; 3]);
    }
    let recoloured: Vec<&Example> =
        dataset.examples.iter().filter(|example| example.key.contains("_in_")).collect();
    assert_eq!(
        recoloured.len(),
        manifest.sources.iter().map(|source| source.kinds["recoloured"]).sum::<usize>()
    );
    for example in recoloured {
        let colour = example.key.rsplit('_').next().unwrap();
        assert!(captions(example).iter().all(|caption| caption.contains(colour)), "{}", example.key);
    }
}

#[test]
fn composites_show_what_their_captions_say() {
    let families = ["noto"];
    let packages = packages(&families);
    let (manifest, dataset) = build(&packages, &recipe(&families), "out");
    let kinds = &manifest.sources[0].kinds;
    assert!(kinds["pair"] > 20 && kinds["count"] >= 9 && kinds["size"] >= 8, "{kinds:?}");
    let colours = BTreeMap::from([
        ("cat", [240, 110, 20]),
        ("green apple", [70, 160, 70]),
        ("red apple", [224, 32, 36]),
        ("red heart", [180, 20, 36]),
        ("raised hand", [252, 210, 50]),
    ]);
    let label = |name: &str| match name.split_once(' ').unwrap().1 {
        "kitten" => "cat",
        "apple" => "red apple",
        "heart" => "red heart",
        "hand" => "raised hand",
        other => colours.keys().find(|label| **label == other).copied().unwrap_or_else(|| panic!("{name}")),
    };
    // Where each colour is: the mean place of its pixels.
    let middle = |example: &Example, colour: [u8; 3]| {
        let image = example.image().unwrap();
        let places = image
            .enumerate_pixels()
            .filter(|(_, _, pixel)| pixel.0.iter().zip(colour).all(|(a, b)| a.abs_diff(b) <= 4));
        let (mut x_sum, mut y_sum, mut count) = (0, 0, 0);
        places.for_each(|(x, y, _)| (x_sum, y_sum, count) = (x_sum + x, y_sum + y, count + 1));
        assert!(count > 0, "{}: {}", example.key, example.captions.main());
        (x_sum as f32 / count as f32, y_sum as f32 / count as f32, count)
    };
    let mut relations = BTreeSet::new();
    for example in dataset.examples.iter().filter(|example| example.key.contains("_pair_")) {
        let caption = example.captions.label.clone();
        let relation = [" to the left of ", " to the right of ", " above ", " below "];
        let relation = relation.into_iter().find(|relation| caption.contains(relation)).unwrap();
        let (a, b) = caption.split_once(relation).unwrap();
        let (a, b) = (middle(example, colours[label(a)]), middle(example, colours[label(b)]));
        let right = match relation {
            " to the left of " => a.0 + 10.0 < b.0,
            " to the right of " => a.0 > b.0 + 10.0,
            " above " => a.1 + 10.0 < b.1,
            _ => a.1 > b.1 + 10.0,
        };
        assert!(right, "{caption}: {a:?} {b:?}");
        relations.insert(relation);
    }
    assert_eq!(relations.len(), 4);
    let mut counts = BTreeSet::new();
    for example in dataset.examples.iter().filter(|example| example.key.contains("_count_")) {
        let captions = captions(example);
        counts.extend(captions.iter().filter_map(|caption| {
            ["two cats", "three cats", "four cats", "3 red apples"]
                .into_iter()
                .find(|words| caption.starts_with(words))
        }));
        let plural = |name: &String| name.starts_with(['t', 'f', '2', '3', '4']);
        assert!(example.captions.names.iter().all(plural), "{:?}", example.captions.names);
    }
    assert!(counts.len() >= 3, "{counts:?}");
    for example in dataset.examples.iter().filter(|example| example.key.contains("_size_")) {
        let label = label(example.captions.label.split_once(' ').unwrap().1);
        let (_, _, pixels) = middle(example, colours[label]);
        let small = example.captions.label.starts_with("a small");
        assert_eq!(pixels < 1000, small, "{}: {pixels}", example.captions.label);
    }
}

#[test]
fn what_is_held_out_is_nowhere_in_training() {
    let families = ["noto", "blob", "fluent-flat", "twemoji"];
    let packages = packages(&families);
    let mut recipe = recipe(&families);
    // Holds out the concept with the smallest hash alone.
    let concepts = ["red apple", "green apple", "cat", "red heart", "raised hand"];
    let mut shares: Vec<(f64, &str)> =
        concepts.iter().map(|concept| (hash_fraction(&format!("split {concept}")), *concept)).collect();
    shares.sort_by(|a, b| a.0.total_cmp(&b.0));
    recipe["held_out"] =
        json!({"concepts": (shares[0].0 + shares[1].0) / 2.0, "styles": 0.999, "pairs": 0.4});
    let (manifest, dataset) = build(&packages, &recipe, "out");
    assert_eq!(manifest.splits["train"] + manifest.splits["val"], manifest.records);
    let unseen = shares[0].1;
    let objects = |key: &str| -> Vec<String> {
        // Keys are stored beside records that name the objects; the dataset keeps captions and concepts.
        let example = dataset.get(key).unwrap();
        concepts.iter().filter(|c| example.captions.label.contains(**c)).map(|c| (*c).to_owned()).collect()
    };
    for example in dataset.subset(Subset::Train) {
        assert!(!example.captions.label.contains(unseen), "{}", example.key);
        assert!(!objects(&example.key).contains(&unseen.to_owned()));
    }
    for concept in &shares[1..] {
        let of = |subset| {
            let drawings = dataset.subset(subset).filter(|example| !example.key.contains("_in_"));
            let families = drawings.filter(|example| example.concept == concept.1);
            families.map(|example| example.key.split('_').next().unwrap().to_owned()).collect::<BTreeSet<_>>()
        };
        let (held_out, trained) = (of(Subset::HeldOut(HeldOut::Style)), of(Subset::Train));
        assert_eq!((held_out.len(), trained.len()), (1, 3), "{concept:?}");
        assert!(held_out.is_disjoint(&trained));
        // Nor in a composite of that family.
        let family = held_out.first().unwrap();
        let composites = dataset.subset(Subset::Train).filter(|example| {
            example.key.contains("_pair_")
                || example.key.contains("_count_")
                || example.key.contains("_size_")
        });
        let showing = composites.filter(|example| example.key.starts_with(&format!("{family}_")));
        assert!(!showing.into_iter().any(|example| example.captions.label.contains(concept.1)));
    }
    // A pair is in one split, whatever the order and the style.
    let pair = |example: &Example| {
        let shown = objects(&example.key);
        (shown.len() == 2).then(|| shown.into_iter().collect::<BTreeSet<_>>())
    };
    let pairs =
        |subset| dataset.subset(subset).filter(|example| example.key.contains("_pair_")).filter_map(pair);
    let held_out: BTreeSet<_> = pairs(Subset::HeldOut(HeldOut::Pair)).collect();
    let trained: BTreeSet<_> = pairs(Subset::Train).collect();
    assert!(!held_out.is_empty() && !trained.is_empty() && held_out.is_disjoint(&trained));
    assert!(
        dataset.examples.iter().all(|example| (example.split == Split::Val) == example.held_out.is_some())
    );
}

#[test]
fn a_drawing_in_one_colour_is_not_called_by_another() {
    let families = ["noto", "fluent-high-contrast"];
    let packages = packages(&families);
    let mut recipe = recipe(&families);
    recipe["sources"][1]["monochrome"] = json!(true);
    let (manifest, dataset) = build(&packages, &recipe, "out");
    // "a green apple" is the only name of that drawing, and not true of it.
    assert!(dataset.get("fluent-high-contrast_green-apple").is_none());
    assert_eq!(manifest.sources[1].left_out.values().sum::<usize>(), 1);
    let apple = captions(dataset.get("fluent-high-contrast_red-apple").unwrap());
    assert!(
        apple.contains("an apple, high contrast style")
            && !apple.iter().any(|caption| caption.contains("red"))
    );
    assert!(apple.iter().all(|caption| caption.contains("high contrast")), "{apple:?}");
    assert_eq!(manifest.sources[1].kinds.keys().collect::<Vec<_>>(), ["background", "drawing"]);
}

#[test]
fn a_share_of_a_group_is_used() {
    let packages = packages(&["noto"]);
    let mut recipe = recipe(&["noto"]);
    recipe["groups"]["people-body"] = json!(0.0);
    let (_, dataset) = build(&packages, &recipe, "out");
    assert!(dataset.get("noto_raised-hand").is_none() && dataset.get("noto_red-heart").is_none());
    assert!(dataset.get("noto_cat").is_some());
    assert!(dataset.examples.iter().all(|example| !example.captions.label.contains("hand")));
}

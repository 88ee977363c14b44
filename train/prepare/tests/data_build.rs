//! `dalle data build` from packages of drawings: what is joined, what is left out, and that the bytes are the same.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod data_support;

use std::collections::{BTreeMap, HashMap};

use dalle_data::{DataError, Dataset, Reason, Split};
use dalle_native::publish::PublishError;
use dalle_prepare::{EmojiPackages, Family};
use data_support::{Packages, contents, names, options, rectangle, run, write};
use image::Rgb;
use serde_json::json;

const WHITE: Rgb<u8> = Rgb([255, 255, 255]);

#[test]
fn joins_by_code_points_then_name_then_synonym_then_variant() {
    let packages = Packages::new();
    let icons: Vec<(String, String)> =
        ["odd-name", "green-apple", "kitty", "red-heart-2", "nothing-known", "old-cat"]
            .into_iter()
            .zip(1..)
            .map(|(name, side)| (name.to_owned(), rectangle("blue", 0, 0, side, 1)))
            .collect();
    let icons: Vec<(&str, &str)> = icons.iter().map(|(name, body)| (name.as_str(), body.as_str())).collect();
    // The code points win over a name that means something else.
    let points = [("1f34e", "odd-name"), ("2764", "red-heart-2")];
    packages.icons("fluent-flat", &icons, &points, &json!({"cat": {"parent": "kitty"}}));
    let out = packages.root().join("out");
    let manifest = run(&packages.input(&["fluent-flat"]), &options(), &out, false).unwrap();

    let dataset = Dataset::open(&out).unwrap();
    let labels: BTreeMap<&str, &str> =
        dataset.examples.iter().map(|e| (e.key.as_str(), e.captions.label.as_str())).collect();
    assert_eq!(
        labels,
        BTreeMap::from([
            ("fluent-flat_odd-name", "red apple"),
            ("fluent-flat_green-apple", "green apple"),
            ("fluent-flat_kitty", "cat"),
            ("fluent-flat_red-heart-2", "red heart"),
        ])
    );
    let source = &manifest.sources[0];
    assert_eq!(source.stored, 4);
    assert_eq!(source.left_out, BTreeMap::from([(Reason::NoCaption, 1), (Reason::Superseded, 1)]));
    assert_eq!(manifest.problems.len(), 1);
    assert!(manifest.problems[0].source.contains("nothing-known"));
    assert_eq!(manifest.records, 4);
    assert_eq!(manifest.shards.iter().map(|shard| shard.records).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn skin_tones_and_groups_are_options() {
    let packages = Packages::new();
    packages.icons(
        "fluent-flat",
        &[
            ("raised-hand", &rectangle("yellow", 0, 0, 3, 5)),
            ("raised-hand-light-skin-tone", &rectangle("pink", 0, 0, 3, 5)),
            ("flag-for-japan", &rectangle("red", 0, 0, 3, 5)),
        ],
        &[],
        &json!({}),
    );
    let input = packages.input(&["fluent-flat"]);
    let keys = |input: &_, name: &str| {
        let out = packages.root().join(name);
        run(input, &options(), &out, false).unwrap();
        let mut examples = Dataset::open(&out).unwrap().examples;
        examples.sort_by(|a, b| a.key.cmp(&b.key));
        examples
    };
    let plain = keys(&input, "plain");
    assert_eq!(plain.len(), 1);
    assert_eq!(plain[0].captions.label, "raised hand");

    let toned = keys(&EmojiPackages { skin_tones: true, ..input.clone() }, "tones");
    assert_eq!(toned.len(), 2);
    assert_eq!(toned[1].captions.label, "raised hand: light skin tone");
    assert_eq!(toned[1].concept, toned[0].concept, "a skin tone is held out with its emoji");

    let flags = |group: &str| EmojiPackages { groups: Some(vec![group.to_owned()]), ..input.clone() };
    assert_eq!(keys(&flags("flags"), "flags")[0].captions.label, "flag: Japan");

    let none = packages.root().join("none");
    let error = run(&flags("fruit"), &options(), &none, false).unwrap_err().to_string();
    assert!(error.contains("`fruit`") && error.contains("food-drink"), "{error}");
}

#[test]
fn drawings_fill_the_picture_less_a_margin_and_stand_in_the_middle() {
    let packages = Packages::with_three_drawings();
    let out = packages.root().join("out");
    run(&packages.input(&["fluent-flat"]), &options(), &out, false).unwrap();
    let dataset = Dataset::open(&out).unwrap();
    let image = |key: &str| {
        dataset.examples.iter().find(|example| example.key.ends_with(key)).unwrap().image().unwrap()
    };
    // A small square in a corner of its frame becomes 30×30 pixels, one pixel from each edge of 32.
    let apple = image("red-apple");
    for (x, y, colour) in
        [(16, 16, Rgb([255, 0, 0])), (2, 2, Rgb([255, 0, 0])), (0, 16, WHITE), (16, 31, WHITE)]
    {
        assert_eq!(*apple.get_pixel(x, y), colour, "at {x}, {y}");
    }
    // Twice as wide as high: 30×15.
    let flat = image("green-apple");
    for (x, y, colour) in
        [(2, 16, Rgb([0, 128, 0])), (29, 16, Rgb([0, 128, 0])), (16, 4, WHITE), (16, 27, WHITE)]
    {
        assert_eq!(*flat.get_pixel(x, y), colour, "at {x}, {y}");
    }
}

#[test]
fn an_alias_that_flips_is_a_drawing_of_its_own() {
    let packages = Packages::new();
    let two = rectangle("red", 0, 0, 8, 8) + &rectangle("blue", 8, 0, 8, 8);
    packages.icons(
        "fluent-flat",
        &[("cat", &two)],
        &[],
        &json!({"red-heart": {"parent": "cat", "hFlip": true}}),
    );
    let out = packages.root().join("out");
    run(&packages.input(&["fluent-flat"]), &options(), &out, false).unwrap();
    let dataset = Dataset::open(&out).unwrap();
    let left: HashMap<&str, Rgb<u8>> = dataset
        .examples
        .iter()
        .map(|e| (e.captions.label.as_str(), *e.image().unwrap().get_pixel(4, 16)))
        .collect();
    assert_eq!(left, HashMap::from([("cat", Rgb([255, 0, 0])), ("red heart", Rgb([0, 0, 255]))]));
}

#[test]
fn coloured_backgrounds_are_named_in_every_caption() {
    let packages = Packages::with_three_drawings();
    let out = packages.root().join("out");
    let mut options = options();
    options.backgrounds = 2;
    let manifest = run(&packages.input(&["fluent-flat"]), &options, &out, false).unwrap();
    assert_eq!((manifest.records, manifest.sources[0].stored), (9, 3));
    let dataset = Dataset::open(&out).unwrap();
    for example in &dataset.examples {
        let corner = *example.image().unwrap().get_pixel(0, 0);
        match &example.captions.background {
            None => {
                assert_eq!(corner, WHITE);
                assert_eq!(example.captions.main(), example.captions.label);
            }
            Some(colour) => {
                assert_ne!(corner, WHITE);
                assert!(example.key.ends_with(&format!("_on_{}", colour.replace(' ', "-"))));
                let ending = format!(" on a {colour} background");
                assert_eq!(example.captions.main(), format!("{}{ending}", example.captions.label));
                assert!(example.captions.templates.iter().all(|template| template.ends_with(&ending)));
            }
        }
    }
}

#[test]
fn a_drawing_is_set_only_on_backgrounds_that_it_stands_out_from() {
    let packages = Packages::with_three_drawings();
    let out = packages.root().join("out");
    let mut options = options();
    options.backgrounds = 10;
    run(&packages.input(&["fluent-flat"]), &options, &out, false).unwrap();
    let backgrounds = |label: &str| -> Vec<String> {
        let dataset = Dataset::open(&out).unwrap();
        let of_label = dataset.examples.into_iter().filter(|example| example.captions.label == label);
        of_label.filter_map(|example| example.captions.background).collect()
    };
    assert_eq!(backgrounds("red apple").len(), 10);
    let cat = backgrounds("cat");
    assert_eq!(cat.len(), 9, "a black cat on all but black: {cat:?}");
    assert!(!cat.contains(&"black".to_owned()));
}

#[test]
fn a_style_is_named_only_where_there_are_several() {
    let packages = Packages::with_three_drawings();
    packages.icons("emojione", &[("cat", &rectangle("orange", 0, 0, 5, 5))], &[], &json!({}));
    let styled = |families: &[&str], name: &str| {
        let out = packages.root().join(name);
        run(&packages.input(families), &options(), &out, false).unwrap();
        let examples = Dataset::open(&out).unwrap().examples;
        let mut cats: Vec<Vec<String>> = examples
            .iter()
            .filter(|example| example.captions.label == "cat")
            .map(|example| example.captions.templates[1..].to_vec())
            .collect();
        cats.sort();
        cats
    };
    let tags = "{label}, {tag}, {tag}".to_owned();
    assert_eq!(styled(&["fluent-flat"], "one"), [[tags.clone()]]);
    assert_eq!(
        styled(&["fluent-flat", "emojione"], "two"),
        [
            [tags.clone(), "a flat emoji of {label}".to_owned()],
            [tags, "an emojione emoji of {label}".to_owned()]
        ]
    );
}

#[test]
fn the_same_input_gives_the_same_bytes_with_any_number_of_threads() {
    let packages = Packages::with_three_drawings();
    let mut options = options();
    options.backgrounds = 3;
    let outs = [1, 4].map(|threads| {
        let out = packages.root().join(format!("out-{threads}"));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&packages.input(&["fluent-flat"]), &options, &out, false)).unwrap();
        contents(&out)
    });
    assert_eq!(outs[0], outs[1]);
    assert_eq!(outs[0].len(), 8, "six shards of two, manifest and attribution: {:?}", outs[0].keys());

    options.seed += 1;
    let other = packages.root().join("other-seed");
    run(&packages.input(&["fluent-flat"]), &options, &other, false).unwrap();
    assert_ne!(outs[0]["shard-000000.tar"], contents(&other)["shard-000000.tar"]);
}

#[test]
fn a_malformed_drawing_is_left_out_by_name_and_the_same_picture_twice_once() {
    let packages = Packages::new();
    packages.icons(
        "fluent-flat",
        &[
            ("red-apple", "<rect this is no XML"),
            ("green-apple", "<g></g>"),
            ("cat", &rectangle("red", 0, 0, 4, 4)),
            ("cat-2", &rectangle("red", 8, 8, 4, 4)),
        ],
        &[],
        &json!({}),
    );
    let manifest =
        run(&packages.input(&["fluent-flat"]), &options(), &packages.root().join("out"), false).unwrap();
    assert_eq!(
        manifest.sources[0].left_out,
        BTreeMap::from([(Reason::Unreadable, 2), (Reason::Duplicate, 1)])
    );
    let named = |reason| {
        let problems = manifest.problems.iter().filter(move |problem| problem.reason == reason);
        problems.map(|problem| problem.source.as_str()).collect::<Vec<_>>()
    };
    let package = "@iconify-json/fluent-emoji-flat@1.2.3";
    assert_eq!(
        named(Reason::Unreadable),
        [format!("{package}: green-apple"), format!("{package}: red-apple")]
    );
    assert_eq!(named(Reason::Duplicate).len(), 1);
}

#[test]
fn nothing_usable_is_an_error_and_leaves_nothing_behind() {
    let packages = Packages::new();
    packages.icons("fluent-flat", &[("cat", "<rect this is no XML")], &[], &json!({}));
    let before = names(packages.root());
    let error =
        run(&packages.input(&["fluent-flat"]), &options(), &packages.root().join("out"), false).unwrap_err();
    assert!(
        matches!(&error, DataError::Nothing { reasons, .. } if reasons.contains("unreadable: 1")),
        "{error}"
    );
    assert_eq!(names(packages.root()), before);
}

#[test]
fn an_existing_folder_is_replaced_only_if_asked_and_only_if_it_is_a_dataset() {
    let packages = Packages::with_three_drawings();
    let input = packages.input(&["fluent-flat"]);
    let out = packages.root().join("out");
    run(&input, &options(), &out, false).unwrap();
    let first = contents(&out);
    assert!(matches!(run(&input, &options(), &out, false), Err(DataError::Publish(PublishError::Exists(_)))));

    // A failing build leaves the old dataset as it was.
    let broken = packages.root().join("node_modules/@iconify-json/fluent-emoji-flat/icons.json");
    let intact = std::fs::read_to_string(&broken).unwrap();
    write(&broken, "{}");
    let error = run(&input, &options(), &out, true).unwrap_err();
    assert!(matches!(&error, DataError::Json { path, .. } if *path == broken), "{error}");
    assert_eq!(contents(&out), first);

    write(&broken, &intact);
    let mut larger = options();
    larger.size = 40;
    assert_eq!(run(&input, &larger, &out, true).unwrap().image_size, 40);
    assert_eq!(Dataset::open(&out).unwrap().examples[0].image().unwrap().width(), 40);
    assert_eq!(names(packages.root()), ["node_modules", "out"]);

    let foreign = packages.root().join("holiday");
    write(&foreign.join("diary.txt"), "mine");
    assert!(matches!(
        run(&input, &options(), &foreign, true),
        Err(DataError::Publish(PublishError::Foreign { .. }))
    ));
    assert_eq!(names(&foreign), ["diary.txt"]);
}

#[test]
fn packages_are_found_in_both_layouts_and_missed_by_name() {
    let packages = Packages::with_three_drawings();
    let out = packages.root().join("out");
    let error = run(&packages.input(&["fluent-flat", "noto"]), &options(), &out, false).unwrap_err();
    assert!(matches!(&error, DataError::MissingPackage { package: "@iconify-json/noto", .. }), "{error}");
    assert!(error.to_string().contains("npm install @iconify-json/noto"));

    let installed = packages.root().join("node_modules/@iconify-json/fluent-emoji-flat");
    let unpacked = packages.root().join("flat-1.2.3/package");
    std::fs::create_dir_all(unpacked.parent().unwrap()).unwrap();
    std::fs::rename(&installed, &unpacked).unwrap();
    run(&packages.input(&["fluent-flat"]), &options(), &out, false).unwrap();

    let second = packages.package("flat-1.0.0/package", "@iconify-json/fluent-emoji-flat", "1.0.0", "MIT");
    let error = run(&packages.input(&["fluent-flat"]), &options(), &out, true).unwrap_err();
    assert!(matches!(error, DataError::AmbiguousPackage { first, .. } if first == second));
}

#[test]
fn a_family_of_bitmaps_is_joined_by_its_file_names() {
    let packages = Packages::new();
    let folder =
        packages.package("node_modules/@lobehub/fluent-emoji-3d", "@lobehub/fluent-emoji-3d", "1.1.0", "MIT");
    std::fs::create_dir_all(folder.join("assets")).unwrap();
    let picture =
        image::RgbaImage::from_fn(8, 8, |x, _| image::Rgba([0, 0, 255, if x < 4 { 255 } else { 0 }]));
    picture.save(folder.join("assets/2764-fe0f.webp")).unwrap();
    let out = packages.root().join("out");
    let manifest = run(&packages.input(&["fluent-3d"]), &options(), &out, false).unwrap();
    let dataset = Dataset::open(&out).unwrap();
    assert_eq!(dataset.examples[0].captions.label, "red heart");
    assert_eq!(*dataset.examples[0].image().unwrap().get_pixel(16, 16), Rgb([0, 0, 255]));
    let author = manifest.sources[0].info.package.as_ref().and_then(|package| package.author.as_deref());
    assert_eq!(author, Some("Microsoft Corporation"));
}

#[test]
fn attribution_names_what_went_in_and_nothing_else() {
    let packages = Packages::with_three_drawings();
    packages.icons("noto", &[("unknown", "<g></g>")], &[], &json!({}));
    let out = packages.root().join("out");
    run(&packages.input(&["fluent-flat", "noto"]), &options(), &out, false).unwrap();
    let text = std::fs::read_to_string(out.join("ATTRIBUTION.md")).unwrap();
    let row = "| 3 × fluent-flat | An Artist | Apache-2.0 | `@iconify-json/fluent-emoji-flat` 1.2.3, \
               <https://example.org/art> |";
    assert!(text.contains(row), "{text}");
    assert!(text.contains("| labels and tags |") && text.contains("`emojibase-data` 17.0.0"), "{text}");
    assert!(!text.contains("noto"), "{text}");
}

#[test]
fn options_out_of_range_are_named() {
    let packages = Packages::with_three_drawings();
    let refused = |change: fn(&mut dalle_data::Options)| {
        let mut options = options();
        change(&mut options);
        match run(&packages.input(&["fluent-flat"]), &options, &packages.root().join("out"), false) {
            Err(DataError::Option { option, .. }) => option,
            other => panic!("expected a refusal, got {other:?}"),
        }
    };
    assert_eq!(refused(|options| options.size = 0), "size");
    assert_eq!(refused(|options| options.size = 1 << 20), "size");
    assert_eq!(refused(|options| options.shard_size = 0), "shard-size");
    assert_eq!(refused(|options| options.backgrounds = 99), "backgrounds");
    assert_eq!(refused(|options| options.val_share = f64::NAN), "val");
    assert!("noto2".parse::<&'static Family>().unwrap_err().contains("fluent-flat"));
}

#[test]
fn concepts_are_held_out_by_hash_in_every_family_alike() {
    let packages = Packages::with_three_drawings();
    let icons = [("cat", rectangle("gray", 0, 0, 9, 9)), ("red-apple", rectangle("maroon", 0, 0, 9, 9))];
    packages.icons("twemoji", &icons.each_ref().map(|(name, body)| (*name, body.as_str())), &[], &json!({}));
    let out = packages.root().join("out");
    let mut options = options();
    options.val_share = 0.5;
    let manifest = run(&packages.input(&["fluent-flat", "twemoji"]), &options, &out, false).unwrap();
    let dataset = Dataset::open(&out).unwrap();
    for example in &dataset.examples {
        assert_eq!(example.split, Split::of(&example.concept, 0.5), "{}", example.key);
    }
    assert_eq!(dataset.split(Split::Train).count(), manifest.train);
    assert_eq!(dataset.split(Split::Val).count(), manifest.val);

    let held_out = (0..20_000).filter(|n| Split::of(&format!("{n:X}"), 0.05) == Split::Val).count();
    assert!((900..1100).contains(&held_out), "5 % of 20,000 is 1,000, got {held_out}");
    assert_eq!(Split::of("1F34E", 0.0), Split::Train);
}

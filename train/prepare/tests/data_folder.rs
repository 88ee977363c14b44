//! `dalle data build` from a folder of images with captions.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod data_support;

use std::path::Path;

use dalle_data::{DataError, Dataset, Reason};
use dalle_prepare::ImageFiles;
use data_support::{Packages, options, run, write};
use image::{Rgb, RgbImage, Rgba, RgbaImage};
use tempfile::TempDir;

fn photo(path: &Path, colour: [u8; 3]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    // Twice as wide as high: the middle square is `colour`, the sides are black.
    let picture =
        RgbImage::from_fn(80, 40, |x, _| if (20..60).contains(&x) { Rgb(colour) } else { Rgb([0; 3]) });
    picture.save(path).unwrap();
}

fn input(folder: &TempDir) -> ImageFiles {
    ImageFiles { path: folder.path().join("in"), license: "CC0-1.0".to_owned() }
}

#[test]
fn captions_come_from_text_files_and_from_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    photo(&root.join("a cat.png"), [200, 10, 10]);
    write(&root.join("a cat.txt"), "  a {tag} cat\n\na small animal\n");
    photo(&root.join("deep/dog.jpg"), [10, 200, 10]);
    write(
        &root.join("captions.jsonl"),
        "{\"file\": \"deep/dog.jpg\", \"caption\": \"a dog\", \"tags\": [\"pet\", \"ears\"]}\n",
    );
    let out = folder.path().join("out");
    let mut options = options();
    options.backgrounds = 2;
    let manifest = run(&input(&folder), &options, &out, false).unwrap();
    assert_eq!(manifest.records, 2, "a photo gets no coloured background");
    let dataset = Dataset::open(&out).unwrap();
    let find = |key: &str| dataset.examples.iter().find(|example| example.key == key).unwrap();
    let cat = find("a_cat");
    assert_eq!(cat.captions.main(), "a {tag} cat", "a caption is no template");
    assert_eq!(cat.captions.alternatives, ["a small animal"]);
    for (x, y) in [(4, 4), (27, 27), (16, 16)] {
        assert_eq!(
            *cat.image().unwrap().get_pixel(x, y),
            Rgb([200, 10, 10]),
            "the middle square fills the picture"
        );
    }
    let dog = find("deep_dog");
    assert_eq!(dog.captions.main(), "a dog");
    assert_eq!(dog.captions.tags, ["pet", "ears"]);
    let attribution = std::fs::read_to_string(out.join("ATTRIBUTION.md")).unwrap();
    assert!(attribution.contains("| 2 × images | their owner | CC0-1.0 |"), "{attribution}");
}

#[test]
fn a_photo_that_its_camera_marked_as_turned_is_stored_upright() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    std::fs::create_dir_all(&root).unwrap();
    // Upright it is red above blue; the camera was held so that red came to lie left.
    let lying = RgbImage::from_fn(64, 64, |x, _| if x < 32 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) });
    let mut jpeg = std::io::Cursor::new(Vec::new());
    lying.write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
    let mut jpeg = jpeg.into_inner();
    // An Exif segment with one entry: orientation (tag 0x0112), a 16-bit number, 6: turn clockwise to see it upright.
    let tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let mut segment = vec![0xFF, 0xE1, 0, (2 + 6 + tiff.len()) as u8];
    segment.extend(b"Exif\0\0");
    segment.extend(tiff);
    jpeg.splice(2..2, segment);
    std::fs::write(root.join("photo.jpg"), jpeg).unwrap();
    write(&root.join("photo.txt"), "red above blue");
    run(&input(&folder), &options(), &folder.path().join("out"), false).unwrap();
    let photo = Dataset::open(&folder.path().join("out")).unwrap().examples[0].image().unwrap();
    for (x, y, red) in [(4, 4, true), (28, 4, true), (4, 28, false), (28, 28, false)] {
        assert_eq!(photo.get_pixel(x, y).0[0] > 128, red, "at {x}, {y}");
    }
}

#[test]
fn a_picture_with_holes_is_a_drawing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    std::fs::create_dir_all(&root).unwrap();
    let dot = RgbaImage::from_fn(64, 64, |x, y| Rgba([0, 0, 255, if x < 8 && y < 8 { 255 } else { 0 }]));
    dot.save(root.join("dot.png")).unwrap();
    write(&root.join("dot.txt"), "a blue square");
    write(
        &root.join("box.svg"),
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path d="M0 0h2v2H0z"/></svg>"#,
    );
    write(&root.join("box.txt"), "a black square");
    let out = folder.path().join("out");
    let mut options = options();
    options.backgrounds = 1;
    assert_eq!(run(&input(&folder), &options, &out, false).unwrap().records, 4);
    for example in Dataset::open(&out).unwrap().examples {
        let colour = if example.key.starts_with("dot") { [0, 0, 255] } else { [0; 3] };
        assert_eq!(*example.image().unwrap().get_pixel(16, 16), Rgb(colour), "{}", example.key);
        assert_eq!(*example.image().unwrap().get_pixel(29, 29), Rgb(colour), "{}", example.key);
        assert_eq!(
            *example.image().unwrap().get_pixel(0, 0) == Rgb([255; 3]),
            example.captions.background.is_none(),
            "{}",
            example.key
        );
    }
}

#[test]
fn what_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    photo(&root.join("good.png"), [1, 2, 3]);
    write(&root.join("good.txt"), "good");
    photo(&root.join("silent.png"), [1, 2, 3]);
    photo(&root.join("blank.png"), [1, 2, 3]);
    write(&root.join("blank.txt"), " \n");
    photo(&root.join("binary.png"), [1, 2, 3]);
    std::fs::write(root.join("binary.txt"), b"caf\xe9").unwrap();
    write(&root.join("torn.png"), "\u{89}PNG and then nothing");
    write(&root.join("torn.txt"), "torn");
    write(&root.join("orphan.txt"), "a caption");
    write(&root.join("movie.mp4"), "frames");
    write(&root.join("movie.txt"), "what the film shows");
    write(&root.join("README.txt"), "about these images");
    let manifest = run(&input(&folder), &options(), &folder.path().join("out"), false).unwrap();
    assert_eq!(manifest.records, 1);
    let problems: Vec<(Reason, &str)> =
        manifest.problems.iter().map(|problem| (problem.reason, problem.source.as_str())).collect();
    assert_eq!(
        problems,
        [
            (Reason::Unreadable, "torn.png"),
            (Reason::UnreadableCaption, "binary.png"),
            (Reason::NoCaption, "blank.png"),
            (Reason::NoCaption, "silent.png"),
            (Reason::NoImage, "orphan.txt"),
        ]
    );
    let message = |file: &str| {
        manifest.problems.iter().find(|problem| problem.source == file).unwrap().message.as_str()
    };
    assert_eq!(message("blank.png"), "its caption in blank.txt is empty; write one there");
    assert!(message("silent.png").starts_with("has no caption; expected silent.txt beside it"));
    assert!(
        message("binary.png").contains("binary.txt is not UTF-8 text")
            && message("binary.png").contains("save it")
    );
    let others = &manifest.sources[0].other_files;
    assert_eq!(others, &[(".mp4".to_owned(), 1), (".txt".to_owned(), 2)].into(), "counted, not named");
}

#[test]
fn images_whose_names_are_alike_are_all_stored() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    let long = "with-every-keyword-that-somebody-could-type-".repeat(3);
    let names = [
        "a b.png".to_owned(),
        "a_b.png".to_owned(),
        "猫.png".to_owned(),
        "犬.png".to_owned(),
        "cats/tabby.png".to_owned(),
        "cats_tabby.png".to_owned(),
        "tulip.png".to_owned(),
        "tulip.webp".to_owned(),
        format!("{long}0.png"),
        format!("{long}1.png"),
    ];
    for (name, number) in names.iter().zip(0..) {
        photo(&root.join(name), [number * 20, 2, 3]);
        write(&root.join(name).with_extension("txt"), &format!("image {}", name.split('.').next().unwrap()));
    }
    let out = folder.path().join("out");
    assert_eq!(run(&input(&folder), &options(), &out, false).unwrap().records, names.len());
    let dataset = Dataset::open(&out).unwrap();
    let mut reds: Vec<u8> =
        dataset.examples.iter().map(|example| example.image().unwrap().get_pixel(16, 16).0[0]).collect();
    reds.sort_unstable();
    assert_eq!(reds, (0..names.len() as u8).map(|number| number * 20).collect::<Vec<_>>());
}

#[test]
fn lines_of_a_list_that_cannot_be_used_are_named_and_the_others_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    photo(&root.join("cat.png"), [1, 2, 3]);
    write(
        &root.join("captions.jsonl"),
        "{\"file\": \"cat.png\", \"caption\": \"a cat\", \"width\": 80}\n{\"file\": 3}\n\
         {\"file\": \"./cat.png\", \"caption\": \"a pet\"}\n{\"file\": \"dog.png\", \"caption\": \"a dog\"}\n",
    );
    let out = folder.path().join("out");
    let manifest = run(&input(&folder), &options(), &out, false).unwrap();
    let problems: Vec<(Reason, &str)> =
        manifest.problems.iter().map(|problem| (problem.reason, problem.source.as_str())).collect();
    assert_eq!(problems, [(Reason::UnreadableCaption, "captions.jsonl"), (Reason::NoImage, "dog.png")]);
    assert!(manifest.problems[0].message.starts_with("line 2: expected"), "{:?}", manifest.problems);
    let cat = &Dataset::open(&out).unwrap().examples[0];
    assert_eq!(
        (cat.captions.main().as_str(), cat.captions.alternatives.as_slice()),
        ("a cat", &["a pet".to_owned()][..])
    );
    let missing = ImageFiles { path: folder.path().join("nowhere"), license: String::new() };
    let error = run(&missing, &options(), &folder.path().join("other"), false).unwrap_err();
    assert!(matches!(error, DataError::Io { .. }), "{error}");
}

#[test]
fn what_systems_leave_in_folders_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    for name in
        ["cat.png", ".thumbnails/cat.png", "._cat.png", "__MACOSX/cat.png", ".ipynb_checkpoints/cat-copy.png"]
    {
        photo(&root.join(name), [1, 2, 3]);
        write(&root.join(name).with_extension("txt"), "a cat");
    }
    for name in [".DS_Store", "Thumbs.db", "desktop.ini"] {
        write(&root.join(name), "system");
    }
    let manifest = run(&input(&folder), &options(), &folder.path().join("out"), false).unwrap();
    assert_eq!((manifest.records, &manifest.problems[..]), (1, &[][..]));
    assert!(manifest.sources[0].other_files.is_empty());
}

#[test]
fn names_match_however_their_letters_are_composed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    // As macOS writes it, decomposed; the captions composed.
    photo(&root.join("cafe\u{301}.png"), [1, 2, 3]);
    write(&root.join("captions.jsonl"), "{\"file\": \"caf\u{e9}.png\", \"caption\": \"a café\"}\n");
    photo(&root.join("nin\u{303}o.png"), [4, 2, 3]);
    write(&root.join("ni\u{f1}o.txt"), "a child");
    let manifest = run(&input(&folder), &options(), &folder.path().join("out"), false).unwrap();
    assert_eq!((manifest.records, &manifest.problems[..]), (2, &[][..]));
}

#[cfg(unix)]
#[test]
fn linked_folders_are_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    photo(&root.join("cat.png"), [1, 2, 3]);
    write(&root.join("cat.txt"), "a cat");
    photo(&folder.path().join("elsewhere/dog.png"), [200, 2, 3]);
    write(&folder.path().join("elsewhere/dog.txt"), "a dog");
    for (target, link) in
        [(folder.path().join("elsewhere"), "more"), (root.clone(), "again"), (root.clone(), "deep")]
    {
        std::os::unix::fs::symlink(target, root.join(link)).unwrap();
    }
    let manifest = run(&input(&folder), &options(), &folder.path().join("out"), false).unwrap();
    assert_eq!((manifest.records, &manifest.problems[..]), (2, &[][..]));
}

#[test]
fn the_same_image_twice_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    for name in ["one", "two"] {
        photo(&root.join(format!("{name}.png")), [1, 2, 3]);
        write(&root.join(format!("{name}.txt")), "a cat");
    }
    let manifest = run(&input(&folder), &options(), &folder.path().join("out"), false).unwrap();
    let problem = &manifest.problems[0];
    assert_eq!((manifest.records, problem.reason), (1, Reason::Duplicate));
    let other = if problem.source == "one.png" { "two.png" } else { "one.png" };
    assert_eq!(problem.message, format!("has the same pixels and caption as {other}, which is stored"));
}

#[test]
fn every_problem_is_returned_where_nothing_is_left_to_store() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        photo(&folder.path().join(format!("in/{name}.png")), [1, 2, 3]);
    }
    match run(&input(&folder), &options(), &folder.path().join("out"), false).unwrap_err() {
        DataError::Nothing { problems, .. } => {
            assert_eq!(problems.len(), 2);
            assert!(problems[0].message.contains("metadata.csv"), "{problems:?}");
        }
        other => panic!("expected nothing to store, got {other}"),
    }
}

#[test]
fn a_wrong_path_is_refused_with_what_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    photo(&root.join("cat.png"), [1, 2, 3]);
    write(&root.join("cat.txt"), "a cat");
    let out = folder.path().join("out");
    run(&input(&folder), &options(), &out, false).unwrap();
    write(&folder.path().join("packages/package.json"), "{}");
    for (path, expected) in [
        (root.join("cat.png"), "expected a folder of images, a WebDataset shard"),
        (out, "is a dataset already"),
        (folder.path().join("packages"), "--packages reads them"),
    ] {
        let input = ImageFiles { path, license: String::new() };
        let error = run(&input, &options(), &folder.path().join("other"), false).unwrap_err().to_string();
        assert!(error.starts_with("--images: ") && error.contains(expected), "{error}");
    }
}

#[test]
fn a_small_image_is_enlarged_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    photo(&root.join("large.png"), [1, 2, 3]);
    write(&root.join("large.txt"), "large");
    std::fs::create_dir_all(&root).unwrap();
    RgbImage::from_pixel(1, 1, Rgb([9, 9, 9])).save(root.join("dot.png")).unwrap();
    write(&root.join("dot.txt"), "a dot");
    let manifest = run(&input(&folder), &options(), &folder.path().join("out"), false).unwrap();
    assert_eq!((manifest.sources[0].stored, manifest.sources[0].enlarged), (2, 1));
}

#[test]
fn a_dataset_is_not_written_into_the_pictures_or_around_them() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    photo(&root.join("cat.png"), [200, 10, 10]);
    write(&root.join("cat.txt"), "a cat");
    #[cfg(unix)]
    std::os::unix::fs::symlink(&root, folder.path().join("link")).unwrap();
    for (out, how) in [
        ("in", "is"),
        ("in/deep/out", "lies inside"),
        #[cfg(unix)]
        ("link/out", "lies inside"),
        ("in/../in/out", "lies inside"),
        ("", "holds"),
    ] {
        let out = folder.path().join(out);
        // As if it were a dataset that --overwrite may replace.
        write(&folder.path().join("manifest.json"), "{}");
        write(&root.join("manifest.json"), "{}");
        let error = run(&input(&folder), &options(), &out, true).unwrap_err().to_string();
        assert!(
            error.starts_with("--out: expected a folder apart from --images") && error.contains(how),
            "{error}"
        );
        assert!(root.join("cat.png").is_file());
    }
    run(&input(&folder), &options(), &folder.path().join("in-data"), false).unwrap();
}

#[test]
fn a_concept_is_on_the_same_side_whichever_source_shows_it() {
    let packages = Packages::with_three_drawings();
    let drawings = packages.root().join("drawings");
    run(&packages.input(&["fluent-flat"]), &options(), &drawings, false).unwrap();
    let folder = tempfile::tempdir().unwrap();
    photo(&folder.path().join("in/1.png"), [200, 10, 10]);
    write(&folder.path().join("in/1.txt"), "A red apple.");
    let photos = folder.path().join("photos");
    run(&input(&folder), &options(), &photos, false).unwrap();
    let drawings = Dataset::open(&drawings).unwrap();
    let drawing = drawings.examples.iter().find(|example| example.captions.label == "red apple").unwrap();
    let photo = &Dataset::open(&photos).unwrap().examples[0];
    assert_eq!(photo.captions.label, "A red apple.", "the caption stays as it was written");
    assert_eq!((&photo.concept, photo.split), (&drawing.concept, drawing.split));
}

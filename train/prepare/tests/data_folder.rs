//! `dalle data build` from a folder of pictures with captions.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod data_support;

use std::path::Path;

use dalle_data::{DataError, Dataset, Reason};
use dalle_prepare::ImageFolder;
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

fn input(folder: &TempDir) -> ImageFolder {
    ImageFolder { root: folder.path().join("in"), license: "CC0-1.0".to_owned() }
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
    std::fs::write(root.join("binary.txt"), b"\xff\xfe").unwrap();
    write(&root.join("torn.png"), "\u{89}PNG and then nothing");
    write(&root.join("torn.txt"), "torn");
    write(&root.join("movie.mp4"), "frames");
    let manifest = run(&input(&folder), &options(), &folder.path().join("out"), false).unwrap();
    assert_eq!(manifest.records, 1);
    let problems: Vec<(Reason, &str)> =
        manifest.problems.iter().map(|problem| (problem.reason, problem.source.as_str())).collect();
    assert_eq!(
        problems,
        [
            (Reason::Unreadable, "torn.png"),
            (Reason::UnreadableCaption, "binary.png"),
            (Reason::NotAPicture, "movie.mp4"),
            (Reason::NoCaption, "blank.png"),
            (Reason::NoCaption, "silent.png"),
        ]
    );
}

#[test]
fn one_key_for_two_pictures_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    for name in ["a b", "a_b"] {
        photo(&root.join(format!("{name}.png")), [1, 2, 3]);
        write(&root.join(format!("{name}.txt")), name);
    }
    match run(&input(&folder), &options(), &folder.path().join("out"), false) {
        Err(DataError::DuplicateKey { key, first, second }) => {
            assert_eq!((key.as_str(), first.as_str(), second.as_str()), ("a_b", "a b.png", "a_b.png"));
        }
        other => panic!("expected a duplicate key, got {other:?}"),
    }
}

#[test]
fn a_malformed_list_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    photo(&root.join("cat.png"), [1, 2, 3]);
    let good = r#"{"file": "cat.png", "caption": "a cat"}"#;
    for (list, expected) in [
        (format!("{good}\n{{\"file\": 3}}\n"), "line 2"),
        (format!("{good}\n{good}\n"), "listed twice"),
        (r#"{"file": "cat.png", "caption": "a cat", "tag": "x"}"#.to_owned(), "line 1"),
    ] {
        write(&root.join("captions.jsonl"), &list);
        let error =
            run(&input(&folder), &options(), &folder.path().join("out"), false).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let missing = ImageFolder { root: folder.path().join("nowhere"), license: String::new() };
    let error = run(&missing, &options(), &folder.path().join("out"), false).unwrap_err();
    assert!(matches!(error, DataError::Io { .. }), "{error}");
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

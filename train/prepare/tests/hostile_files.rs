//! `dalle data build` from a folder with files made to do harm: each is left out and named, and the build goes on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod data_support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dalle_data::{Dataset, Manifest};
use dalle_prepare::ImageFolder;
use data_support::{options, run, write};
use image::{Rgb, RgbImage};

/// No file below may take as long as this, slow as the machine may be: some of them would take hours.
const BOUND: Duration = Duration::from_secs(120);

/// A folder with one good image.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("in");
    std::fs::create_dir(&images).unwrap();
    RgbImage::from_pixel(40, 40, Rgb([200, 10, 10])).save(images.join("good.png")).unwrap();
    write(&images.join("good.txt"), "good");
    (folder, images)
}

fn build(folder: &Path) -> Manifest {
    let begun = Instant::now();
    let input = ImageFolder { root: folder.join("in"), license: "CC0-1.0".to_owned() };
    let manifest = run(&input, &options(), &folder.join("out"), true).unwrap();
    assert!(begun.elapsed() < BOUND, "the build took {:?}", begun.elapsed());
    manifest
}

/// What the build says of the one file that it left out.
fn left_out(folder: &Path, file: &str) -> String {
    let manifest = build(folder);
    assert_eq!(manifest.records, 1, "{file}: only the good image is stored");
    let problem = manifest.problems.iter().find(|problem| problem.source == file);
    problem.unwrap_or_else(|| panic!("{file} is not named: {:?}", manifest.problems)).message.clone()
}

fn svg(body: &str) -> String {
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9"><rect fill="red" width="4" height="4"/>{body}</svg>"#
    )
}

/// `levels` groups, each of which shows the one before it ten times.
fn nested(levels: usize, show: impl Fn(usize) -> String, open: &str, close: &str) -> String {
    let groups = (0..levels).map(|level| {
        let content =
            if level == 0 { r#"<path d="M0 0h1v1z"/>"#.to_owned() } else { show(level - 1).repeat(10) };
        format!("{}{content}{close}", open.replace('#', &level.to_string()))
    });
    groups.collect()
}

#[test]
fn documents_that_would_never_end_or_fill_the_memory_are_left_out_and_named() {
    let uses = nested(9, |level| format!(r##"<use xlink:href="#g{level}"/>"##), r#"<g id="g#">"#, "</g>");
    let masks = nested(
        9,
        |level| format!(r#"<path mask="url(#m{level})" d="M0 0h9v9H0z"/>"#),
        r#"<mask id="m#">"#,
        "</mask>",
    );
    let styled = format!(
        r##"<style>.a{{clip-path:url("#c")}}</style><clipPath id="c">{}</clipPath>{}"##,
        r#"<path d="M0 0h1v1z"/>"#.repeat(5_000),
        r#"<path class="a" d="M0 0h1z"/>"#.repeat(5_000)
    );
    let marker = format!(
        r#"<marker id="k">{}</marker><path marker-mid="url(#k)" d="M0 0{}"/>"#,
        r#"<path d="M0 0h1v1z"/>"#.repeat(1_000),
        "h1".repeat(50_000)
    );
    let attributes: String = (0..300_000).map(|number| format!(" a{number}=\"\"")).collect();
    let (folder, images) = folder();
    for (body, expected) in [
        (r#"<filter id="f"><feTurbulence numOctaves="1000000000" baseFrequency="1"/></filter><rect filter="url(#f)" width="9" height="9"/>"#.to_owned(), "octaves"),
        (format!(r#"<path d="M0 0{}"/>"#, "l1 2".repeat(1_100_000)), "bytes"),
        (format!(r#"<path d="M0 0{}"/>"#, "l1 2".repeat(100_000)), "bytes in an attribute"),
        (format!("<style>{}</style>", "a{b:c}".repeat(730_000)), "bytes"),
        (format!("<style>{}</style>", "a{b:c}".repeat(50_000)), "style sheets"),
        (format!("<g{attributes}/>"), "bytes"),
        (format!("<g{}/>", &attributes[..1_500_000]), "attributes"),
        (format!("{}{}", "<g>".repeat(200), "</g>".repeat(200)), "inside one another"),
        (format!("{}{}", "<g>".repeat(200_000), "</g>".repeat(200_000)), ""),
        ("<g/>".repeat(60_000), "not a usable SVG"),
        (format!("<defs>{uses}</defs><use xlink:href=\"#g8\"/>"), "references"),
        (format!("{masks}<path mask=\"url(#m8)\" d=\"M0 0h9v9H0z\"/>"), "references"),
        (styled, "references"),
        (marker, "references"),
    ] {
        write(&images.join("bad.svg"), &svg(&body));
        write(&images.join("bad.txt"), "bad");
        let message = left_out(folder.path(), "bad.svg");
        assert!(message.contains(expected), "expected “{expected}”: {message}");
    }
}

#[test]
fn a_document_that_refers_to_other_files_shows_nothing_of_them() {
    let (folder, images) = folder();
    let outside = folder.path().join("outside.svg");
    write(&outside, &svg(r#"<rect fill="blue" width="9" height="9"/>"#));
    let data = "data:image/png;base64,iVBORw0KGgo=";
    for reference in [outside.to_str().unwrap(), "/dev/zero", data] {
        write(&images.join("bad.svg"), &svg(&format!(r#"<image href="{reference}" width="9" height="9"/>"#)));
        write(&images.join("bad.txt"), "bad");
        let message = left_out(folder.path(), "bad.svg");
        assert!(message.contains("contains an image, which is not rendered"), "{message}");
    }
    // Neither by a reference that looks like one into the document, nor by an entity.
    let outside = outside.display();
    let entity = format!(r#"<!DOCTYPE svg [<!ENTITY x SYSTEM "{outside}">]>{}"#, svg("&x;"));
    for document in [svg(&format!(r#"<use xlink:href="{outside}#g"/>"#)), entity] {
        write(&images.join("bad.svg"), &document);
        build(folder.path());
        for example in Dataset::open(&folder.path().join("out")).unwrap().examples {
            assert!(
                example.image().unwrap().pixels().all(|pixel| pixel.0[2] < 100 || pixel.0[0] > 100),
                "blue is shown"
            );
        }
    }
}

#[test]
fn text_that_would_vanish_is_named() {
    let (folder, images) = folder();
    write(&images.join("badge.svg"), &svg(r#"<text x="1" y="5">Hi</text>"#));
    write(&images.join("badge.txt"), "a badge that says hi");
    let message = left_out(folder.path(), "badge.svg");
    assert!(message.contains("contains text, which is not rendered; convert it to paths"), "{message}");
}

/// The PNG of one pixel, with another size in its header.
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::new(1, 1).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    let mut bytes = bytes.into_inner();
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = bytes[12..29].iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & 0u32.wrapping_sub(crc & 1)))
    });
    bytes[29..33].copy_from_slice(&(!crc).to_be_bytes());
    bytes
}

#[test]
fn images_with_too_many_pixels_are_left_out_before_they_are_decoded() {
    let (folder, images) = folder();
    write(&images.join("bad.txt"), "bad");
    for (width, height) in [(20_000, 20_000), (1, 1_000_000)] {
        std::fs::write(images.join("bad.png"), png_of(width, height)).unwrap();
        let message = left_out(folder.path(), "bad.png");
        assert!(message.contains(&format!("{width}×{height} pixels; expected at most")), "{message}");
    }
    // A row that is longer than all that is allowed; and a size that is allowed of an image that is cut short.
    for (width, height) in [(u32::MAX / 2, 3), (8000, 8000)] {
        std::fs::write(images.join("bad.png"), png_of(width, height)).unwrap();
        assert!(left_out(folder.path(), "bad.png").contains("not a usable image"));
    }
}

#[test]
fn a_strip_is_not_enlarged_with_its_whole_length() {
    let (folder, images) = folder();
    let strip =
        RgbImage::from_fn(2, 60_000, |_, y| Rgb([0, 0, if y.abs_diff(30_000) < 100 { 255 } else { 0 }]));
    strip.save(images.join("strip.png")).unwrap();
    write(&images.join("strip.txt"), "a strip");
    assert_eq!(build(folder.path()).records, 2);
    let dataset = Dataset::open(&folder.path().join("out")).unwrap();
    let strip = dataset.examples.iter().find(|example| example.key == "strip").unwrap();
    assert!(strip.image().unwrap().pixels().all(|pixel| *pixel == Rgb([0, 0, 255])), "its middle square");
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused_wherever_a_file_is_expected() {
    let (folder, images) = folder();
    let pipe = |name: &str| {
        assert!(std::process::Command::new("mkfifo").arg(images.join(name)).status().unwrap().success());
    };
    pipe("pipe.png");
    write(&images.join("pipe.txt"), "a pipe");
    pipe("caption.txt");
    RgbImage::new(8, 8).save(images.join("caption.png")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", images.join("zero.svg")).unwrap();
    write(&images.join("zero.txt"), "zero");
    let manifest = build(folder.path());
    assert_eq!(manifest.records, 1);
    let named: Vec<&str> = manifest.problems.iter().map(|problem| problem.source.as_str()).collect();
    assert_eq!(named, ["pipe.png", "zero.svg", "caption.png"], "{:?}", manifest.problems);
    assert!(manifest.problems.iter().all(|problem| problem.message.contains("not a regular file")));

    pipe("captions.jsonl");
    let input = ImageFolder { root: images, license: String::new() };
    let error = run(&input, &options(), &folder.path().join("out"), true).unwrap_err();
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert!(reason.contains("not a regular file"), "{error}: {reason}");
}

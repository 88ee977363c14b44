//! `dalle data build` from a folder with files made to do harm: each is left out and named, and the build goes on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod data_support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dalle_data::{Dataset, Manifest};
use dalle_prepare::ImageFiles;
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
    let input = ImageFiles { path: folder.join("in"), license: "CC0-1.0".to_owned() };
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
    for reference in [outside.to_str().unwrap(), "/dev/zero", "https://example.org/a.png"] {
        write(&images.join("bad.svg"), &svg(&format!(r#"<image href="{reference}" width="9" height="9"/>"#)));
        write(&images.join("bad.txt"), "bad");
        let message = left_out(folder.path(), "bad.svg");
        assert!(message.contains("contains an image of another file, which is not read"), "{message}");
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
fn text_is_drawn_in_a_font_of_the_program_or_its_letter_is_named() {
    let (folder, images) = folder();
    let document =
        |text: &str| svg(&format!(r#"<text x="1" y="8" font-size="4" font-family="Nothing">{text}</text>"#));
    for text in ["Hi", "Ж", "λ"] {
        write(&images.join("badge.svg"), &document(text));
        write(&images.join("badge.txt"), "a badge");
        assert_eq!(build(folder.path()).records, 2, "{text}");
        let dataset = Dataset::open(&folder.path().join("out")).unwrap();
        let badge = dataset.examples.iter().find(|example| example.key == "badge").unwrap();
        let dark =
            badge.image().unwrap().pixels().filter(|pixel| pixel.0.iter().all(|value| *value < 150)).count();
        assert!(dark > 10, "{text}: {dark} pixels of ink");
    }
    write(&images.join("badge.svg"), &document("猫"));
    let message = left_out(folder.path(), "badge.svg");
    assert!(message.contains("the letter “猫”, which no font of this program has"), "{message}");
}

#[test]
fn images_in_a_document_are_drawn_or_their_fault_is_named() {
    use base64::Engine;
    let (folder, images) = folder();
    let address = |bytes: &[u8]| {
        let base64 = base64::engine::general_purpose::STANDARD.encode(bytes);
        svg(&format!(r#"<image href="data:image/png;base64,{base64}" x="4" y="4" width="5" height="5"/>"#))
    };
    let mut png = std::io::Cursor::new(Vec::new());
    RgbImage::from_pixel(300, 300, Rgb([0, 0, 255])).write_to(&mut png, image::ImageFormat::Png).unwrap();
    let png = png.into_inner();
    write(&images.join("both.svg"), &address(&png));
    write(&images.join("both.txt"), "a red and a blue square");
    assert_eq!(build(folder.path()).records, 2);
    let dataset = Dataset::open(&folder.path().join("out")).unwrap();
    let both = dataset.examples.iter().find(|example| example.key == "both").unwrap().image().unwrap();
    assert_eq!((both.get_pixel(5, 5), both.get_pixel(25, 25)), (&Rgb([255, 0, 0]), &Rgb([0, 0, 255])));
    for (bytes, expected) in [
        (&png[..png.len() / 2], "contains an image that is cut short"),
        (&png_of(8000, 8000)[..], "contains an image that is 8000×8000 pixels"),
        (b"<svg/>", "contains an image that is an SVG drawing"),
    ] {
        write(&images.join("both.svg"), &address(bytes));
        let message = left_out(folder.path(), "both.svg");
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_document_is_read_in_utf_16_and_compressed() {
    use std::io::Write;
    let (folder, images) = folder();
    let document = svg(r#"<rect fill="blue" x="4" y="4" width="5" height="5"/>"#);
    let utf16: Vec<u8> =
        std::iter::once(0xFEFF).chain(document.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    std::fs::write(images.join("wide.svg"), utf16).unwrap();
    write(&images.join("wide.txt"), "wide");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(document.as_bytes()).unwrap();
    std::fs::write(images.join("packed.svgz"), packed.finish().unwrap()).unwrap();
    write(&images.join("packed.txt"), "packed");
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![b' '; 200 << 20]).unwrap();
    std::fs::write(images.join("bomb.svgz"), bomb.finish().unwrap()).unwrap();
    write(&images.join("bomb.txt"), "bomb");
    let manifest = build(folder.path());
    assert_eq!(manifest.records, 3);
    assert!(manifest.problems[0].message.contains("too complex"), "{:?}", manifest.problems);
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
    pipe("shard.tar");
    let manifest = build(folder.path());
    for file in ["captions.jsonl", "shard.tar"] {
        let problem = manifest.problems.iter().find(|problem| problem.source == file).unwrap();
        assert!(problem.message.contains("not a regular file"), "{problem:?}");
    }
}

//! `dalle data build` from what other programs write: lists of captions, WebDataset shards, img2dataset's folders, parquet files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod data_support;

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dalle_data::{Dataset, Manifest, Reason};
use dalle_prepare::ImageFiles;
use data_support::{options, run, write};
use image::{ImageFormat, Rgb, RgbImage};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

fn image(colour: [u8; 3], format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(40, 40, Rgb(colour)).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn png(colour: [u8; 3]) -> Vec<u8> {
    image(colour, ImageFormat::Png)
}

fn build(path: &Path, out: &Path) -> Manifest {
    let input = ImageFiles { path: path.to_owned(), license: "CC0-1.0".to_owned() };
    run(&input, &options(), out, true).unwrap()
}

/// All captions of the dataset, by the red of the image.
fn captions(out: &Path) -> BTreeMap<u8, Vec<String>> {
    let dataset = Dataset::open(out).unwrap();
    let described = dataset.examples.iter().map(|example| {
        let captions = std::iter::once(example.captions.label.clone());
        let captions = captions.chain(example.captions.alternatives.iter().cloned());
        (example.image().unwrap().get_pixel(16, 16).0[0], captions.collect())
    });
    described.collect()
}

fn folder() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (root, out) = (folder.path().join("in"), folder.path().join("out"));
    (folder, root, out)
}

fn store(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn lists_of_captions_are_read_in_every_usual_form_and_place() {
    for (file, content) in [
        ("metadata.jsonl", "{\"file_name\": \"a.png\", \"text\": \"one\"}\n{\"file_name\": \"b/c.png\", \"text\": \"two\"}\n"),
        ("captions.jsonl", "\u{feff}{\"file\": \"./a.png\", \"caption\": \"one\"}\r\n{\"file\": \"b\\\\c.png\", \"caption\": \"two\"}\r\n"),
        ("metadata.csv", "file_name,text\na.png,one\nb/c.png,two\n"),
        ("captions.txt", "image,caption\na.png,one\nc.png,two\n"),
        ("Flickr8k.token.txt", "a.png#0\tone\nc.png#0\ttwo\n"),
        ("captions.tsv", "a.png\tone\nb/c.png\ttwo\n"),
        ("captions.json", "{\"a.png\": \"one\", \"/data/elsewhere/c.png\": [\"two\"]}"),
        (
            "annotations/captions_train2017.json",
            "{\"images\": [{\"id\": 1, \"file_name\": \"a.png\"}, {\"id\": 2, \"file_name\": \"c.png\"}],
              \"annotations\": [{\"image_id\": 2, \"caption\": \"two\"}, {\"image_id\": 1, \"caption\": \"one\"}]}",
        ),
        ("b/metadata.csv", "text,file_name\none,../a.png\ntwo,c.png\n"),
    ] {
        let (_folder, root, out) = folder();
        store(&root.join("a.png"), &png([10, 0, 0]));
        store(&root.join("b/c.png"), &png([20, 0, 0]));
        write(&root.join(file), content);
        let manifest = build(&root, &out);
        assert_eq!(manifest.problems, [], "{file}");
        let expected = [(10, vec!["one".to_owned()]), (20, vec!["two".to_owned()])];
        assert_eq!(captions(&out), BTreeMap::from(expected), "{file}");
    }
}

#[test]
fn captions_lie_beside_images_under_every_usual_ending() {
    let (_folder, root, out) = folder();
    for (ending, number) in [".txt", ".TXT", ".caption", ".png.txt"].iter().zip(1..) {
        store(&root.join(format!("{number}.png")), &png([number, 0, 0]));
        write(&root.join(format!("{number}{ending}")), &format!("image {number}\rmore\r"));
    }
    let manifest = build(&root, &out);
    assert_eq!(manifest.problems, []);
    for (number, captions) in captions(&out) {
        assert_eq!(captions, [format!("image {number}"), "more".to_owned()]);
    }
}

#[test]
fn of_several_lines_for_one_image_the_first_is_the_main_caption() {
    let (_folder, root, out) = folder();
    store(&root.join("0.png"), &png([10, 0, 0]));
    let lines: String = (0..5)
        .map(|n| format!("{{\"image\": \"0.png\", \"caption\": \"caption {n}\", \"height\": 4}}\n"))
        .collect();
    write(&root.join("captions.jsonl"), &lines);
    assert_eq!(build(&root, &out).problems, []);
    assert_eq!(captions(&out)[&10], (0..5).map(|n| format!("caption {n}")).collect::<Vec<_>>());
}

#[test]
fn of_img2datasets_folder_only_the_real_loss_is_named() {
    let (_folder, root, out) = folder();
    for number in 0..30u8 {
        let path = root.join(format!("00000/{number:09}.jpg"));
        store(&path, &image([number * 8, 0, 0], ImageFormat::Jpeg));
        write(
            &path.with_extension("json"),
            &format!("{{\"key\": \"{number:09}\", \"status\": \"success\"}}"),
        );
        if number != 17 {
            write(&path.with_extension("txt"), &format!("image {number}"));
        }
    }
    write(&root.join("00001.parquet"), "no parquet");
    write(&root.join("00000_stats.json"), "{\"count\": 30, \"successes\": 30}");
    store(&root.join("00000.parquet"), &parquet(None, &[("url of one", None)]));
    let manifest = build(&root, &out);
    assert_eq!(manifest.records, 29);
    let named: Vec<&str> = manifest.problems.iter().map(|problem| problem.source.as_str()).collect();
    assert_eq!(
        named,
        ["00001.parquet", "00000/000000017.jpg"],
        "a damaged file is no reason to refuse the others"
    );
    assert_eq!(
        manifest.sources[0].other_files,
        [(".json".to_owned(), 30), (".parquet".to_owned(), 1)].into()
    );
}

/// A WebDataset shard: three images in two forms, a caption in JSON, one image without caption, and what macOS adds.
fn shard() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut append = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content).unwrap();
    };
    append("part/000000.jpg", &image([0, 0, 0], ImageFormat::Jpeg));
    append("part/000000.txt", b"zero");
    append("part/000000.json", b"{\"url\": \"x\"}");
    append("part/._000001.png", b"system");
    append("./part/000001.png", &png([100, 0, 0]));
    append("./part/000001.json", b"{\"caption\": \"one\", \"status\": \"success\"}");
    append("part/000002.image.webp", &image([200, 0, 0], ImageFormat::WebP));
    append("part/000002.caption.txt", b"not of this image");
    append("part/000002.txt", b"two");
    append("part/000003.png", &png([50, 0, 0]));
    append("part/000003.cls", b"7");
    tar.into_inner().unwrap()
}

#[test]
fn shards_of_others_are_read_alone_in_folders_and_compressed() {
    let packed = {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&shard()).unwrap();
        gzip.finish().unwrap()
    };
    for (file, bytes, whole) in [
        ("00000.tar", shard(), false),
        ("00000.TAR", shard(), true),
        ("00000.tar.gz", packed.clone(), false),
        ("00000.tgz", packed, true),
    ] {
        let (_folder, root, out) = folder();
        store(&root.join(file), &bytes);
        let path = root.join(file);
        let manifest = build(if whole { &root } else { &path }, &out);
        assert_eq!(manifest.records, 3, "{file}: {:?}", manifest.problems);
        let expected = [(0, "zero"), (100, "one"), (200, "two")];
        let expected = expected.map(|(red, caption)| (red, vec![caption.to_owned()]));
        assert_eq!(captions(&out), BTreeMap::from(expected), "{file}");
        let problems: Vec<(Reason, &str)> =
            manifest.problems.iter().map(|problem| (problem.reason, problem.source.as_str())).collect();
        assert_eq!(
            problems,
            [
                (Reason::NoCaption, "00000/part/000003.png"),
                (Reason::NoImage, "00000/part/000002.caption.txt")
            ],
            "{file}"
        );
    }
}

#[test]
fn of_a_shard_that_is_cut_short_the_rest_is_read_and_the_loss_named() {
    let (_folder, root, out) = folder();
    let whole = shard();
    store(&root.join("00000.tar"), &whole[..3000]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(&whole).unwrap();
    store(&root.join("00001.tar.gz"), &gzip.finish().unwrap()[..3000]);
    store(&root.join("00002.tar"), b"<html>not found</html>");
    let manifest = build(&root, &out);
    assert!(manifest.records >= 1);
    for archive in ["00000.tar", "00001.tar.gz", "00002.tar"] {
        let problem = manifest.problems.iter().find(|problem| problem.source == archive);
        let problem = problem.unwrap_or_else(|| panic!("{archive} is not named: {:?}", manifest.problems));
        assert!(problem.message.contains("copy or download it again"), "{problem:?}");
    }
}

/// A parquet file of captions, with Hugging Face's structure of an image if there is one.
fn parquet(images: Option<&[Option<Vec<u8>>]>, texts: &[(&str, Option<&str>)]) -> Vec<u8> {
    let image = match images {
        Some(_) => "optional group image { optional binary bytes; optional binary path (UTF8); }",
        None => "",
    };
    let schema = format!("message schema {{ {image} optional binary text (UTF8); required int64 width; }}");
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let properties = WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let strings = |values: Vec<Option<Vec<u8>>>, most: i16| {
        let levels: Vec<i16> =
            values.iter().map(|value| if value.is_some() { most } else { most - 1 }).collect();
        let values: Vec<ByteArray> = values.into_iter().flatten().map(ByteArray::from).collect();
        (values, levels)
    };
    let mut columns = Vec::new();
    if let Some(images) = images {
        columns.push(strings(images.to_vec(), 2));
        let paths = texts.iter().map(|(_, path)| path.map(|path| path.as_bytes().to_vec()));
        columns.push(strings(paths.collect(), 2));
    }
    let captions = texts.iter().map(|(text, _)| (!text.is_empty()).then(|| text.as_bytes().to_vec()));
    columns.push(strings(captions.collect(), 1));
    for (values, levels) in columns {
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
        column.close().unwrap();
    }
    let mut column = group.next_column().unwrap().unwrap();
    let widths = vec![40i64; texts.len()];
    column.typed::<parquet::data_type::Int64Type>().write_batch(&widths, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn a_parquet_file_with_images_and_captions_is_read() {
    let images = [Some(png([10, 0, 0])), Some(png([20, 0, 0])), None, Some(png([40, 0, 0]))];
    let texts = [("one", Some("a.png")), ("two", None), ("three", Some("c.png")), ("", Some("d.png"))];
    let file = parquet(Some(&images), &texts);
    for alone in [true, false] {
        let (_folder, root, out) = folder();
        let path = root.join("train-00000-of-00001.parquet");
        store(&path, &file);
        let manifest = build(if alone { &path } else { &root }, &out);
        let expected = [(10, vec!["one".to_owned()]), (20, vec!["two".to_owned()])];
        assert_eq!(captions(&out), BTreeMap::from(expected));
        let problems: Vec<Reason> = manifest.problems.iter().map(|problem| problem.reason).collect();
        assert_eq!(problems, [Reason::Unreadable, Reason::NoCaption], "{:?}", manifest.problems);
    }
    let (_folder, root, out) = folder();
    let path = root.join("cut.parquet");
    store(&path, &file[..file.len() / 2]);
    let input = ImageFiles { path, license: String::new() };
    let error = run(&input, &options(), &out, false).unwrap_err().to_string();
    assert!(error.contains("expected a parquet file") && error.contains("download it again"), "{error}");
}

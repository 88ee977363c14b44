//! `dalle eval` on a dataset with styles, backgrounds, composites and held-out splits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use dalle_data::{ShardWriter, Split, encode_png};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};

use evaluation::{CONFIG, check_report, dalle, json, refusal, untrained_lite0};

mod evaluation;

const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/tiny.clip.json");
const COLOURS: [(&str, [u8; 3]); 4] =
    [("red", [220, 30, 30]), ("green", [20, 140, 40]), ("blue", [40, 60, 220]), ("brown", [110, 60, 20])];
/// Width and height relative to the space.
const SHAPES: [(&str, f32, f32); 3] = [("square", 1.0, 1.0), ("bar", 1.0, 0.4), ("post", 0.4, 1.0)];
const STYLES: [&str; 2] = ["flat", "outline"];
const WHITE: [u8; 3] = [255; 3];
const PINK: [u8; 3] = [250, 200, 214];

/// The name and number of each concept.
fn concepts() -> Vec<(String, usize)> {
    let names = COLOURS.iter().flat_map(|(colour, _)| SHAPES.map(|(shape, ..)| format!("{colour} {shape}")));
    names.zip(0..).collect()
}

/// Draws a concept in the middle of a box: filled, or its outline alone.
fn draw(image: &mut RgbImage, concept: usize, style: &str, (left, top, side): (u32, u32, u32)) {
    let (rgb, (_, width, height)) = (COLOURS[concept / 3].1, SHAPES[concept % 3]);
    let (width, height) = ((side as f32 * width) as u32, (side as f32 * height) as u32);
    let (left, top) = (left + (side - width) / 2, top + (side - height) / 2);
    for (x, y) in (0..width).flat_map(|x| (0..height).map(move |y| (x, y))) {
        let edge = x < 2 || y < 2 || x + 2 >= width || y + 2 >= height;
        if style == "flat" || edge {
            image.put_pixel(left + x, top + y, Rgb(rgb));
        }
    }
}

/// A dataset folder as `dalle data build` lays it out.
struct Writer {
    shards: ShardWriter,
    train: usize,
    val: usize,
}

impl Writer {
    fn add(&mut self, key: &str, image: &RgbImage, mut record: Value, held_out: Option<&str>) {
        let split = if held_out.is_some() { Split::Val } else { Split::Train };
        record["split"] = json!(split);
        record["held_out"] = json!(held_out);
        record["license"] = json!("CC0-1.0");
        record["source"] = json!(key);
        self.train += usize::from(split == Split::Train);
        self.val += usize::from(split == Split::Val);
        let (png, record) = (encode_png(image).unwrap(), serde_json::to_vec(&record).unwrap());
        self.shards.append(key, split, &[("json", &record), ("png", &png)]).unwrap();
    }
}

/// Twelve concepts in two styles, on white and on pink, in pairs and in numbers. The first concept is held out, the outline of the
/// second, and every third pair.
fn write_dataset(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let mut writer = Writer { shards: ShardWriter::new(folder, 50), train: 0, val: 0 };
    let record = |label: &str, concept: &str, style: &str, background: &str| {
        let on = if background == "white" { String::new() } else { format!(" on a {background} background") };
        json!({
            "label": label, "concept": concept, "style": style, "templates": [format!("{label}{on}"), format!("a {style} {label}{on}")],
            "background": if background == "white" { None } else { Some(background) },
        })
    };
    for (name, number) in concepts() {
        for style in STYLES {
            let held_out = match (number, style) {
                (0, _) => Some("concept"),
                (1, "outline") => Some("style"),
                _ => None,
            };
            for (background, colour, kind) in [("white", WHITE, "drawing"), ("pink", PINK, "background")] {
                let mut image = RgbImage::from_pixel(32, 32, Rgb(colour));
                draw(&mut image, number, style, (5, 5, 22));
                let mut record = record(&name, &name, style, background);
                record["kind"] = json!(kind);
                writer.add(&format!("{style}-{number}-{background}"), &image, record, held_out);
            }
            if held_out.is_some() {
                continue;
            }
            let (other_name, other) = &concepts()[2 + (number + 3) % 10];
            let mut image = RgbImage::from_pixel(32, 32, Rgb(WHITE));
            draw(&mut image, number, style, (2, 9, 13));
            draw(&mut image, *other, style, (17, 9, 13));
            let label = format!("a {name} to the left of a {other_name}");
            let mut pair = record(&label, &label, style, "white");
            pair["kind"] = json!("pair");
            pair["objects"] = json!([name, other_name]);
            pair["relation"] = json!("to the left of");
            writer.add(&format!("{style}-{number}-pair"), &image, pair, (number % 3 == 0).then_some("pair"));
            for (count, places) in [
                (2, &[(2, 9), (17, 9)][..]),
                (3, &[(9, 2), (2, 17), (17, 17)]),
                (4, &[(2, 2), (17, 2), (2, 17), (17, 17)]),
            ] {
                let mut image = RgbImage::from_pixel(32, 32, Rgb(WHITE));
                places.iter().for_each(|(x, y)| draw(&mut image, number, style, (*x, *y, 13)));
                let label = format!("{count} {name}s");
                let mut record = record(&label, &label, style, "white");
                record["kind"] = json!("count");
                record["objects"] = json!([name]);
                record["count"] = json!(count);
                writer.add(&format!("{style}-{number}-{count}"), &image, record, None);
            }
        }
    }
    let Writer { shards, train, val } = writer;
    let manifest = json!({
        "format": 1, "image_size": 32, "records": train + val, "train": train, "val": val, "sources": [], "problems": [],
        "options": { "size": 32, "shard_size": 50, "backgrounds": 1, "val_share": 0.1, "seed": 0 },
        "shards": shards.finish().unwrap(),
    });
    fs::write(folder.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
}

/// The dataset, a barely trained model with CLIP, and random weights of EfficientNet-Lite0.
fn workshop() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path();
    write_dataset(&work.join("data"));
    dalle(work, "tokenizer train --data WORK/data --vocab 300 --out WORK/tokenizer.json");
    dalle(
        work,
        &format!(
            "dvae train --config {CONFIG} --data WORK/data --run WORK/run --out WORK/model --steps 40 --batch 4 --learning-rate 0.004"
        ),
    );
    dalle(
        work,
        "prior train --model WORK/model --data WORK/data --tokenizer WORK/tokenizer.json --run WORK/prior --steps 2 --batch 4",
    );
    dalle(
        work,
        &format!(
            "clip train --model WORK/model --config {CLIP} --data WORK/data --run WORK/clip --steps 2 --batch 8"
        ),
    );
    fs::write(work.join("lite0.safetensors"), untrained_lite0()).unwrap();
    folder
}

#[test]
fn each_metric_alone_gives_the_numbers_that_all_together_give() {
    let folder = workshop();
    let work = folder.path();
    fs::write(work.join("captions.txt"), "# two captions\na red square\n\n2 blue bars\n").unwrap();
    let on = "--model WORK/model --data WORK/data --seed 3";
    let printed = dalle(
        work,
        &format!(
            "eval all {on} --features WORK/lite0.safetensors --captions-file WORK/captions.txt --best-of 2 --captions 6 --n 2 --asked 4 \
             --among 4 --drawings 40 --report WORK/all.html --json WORK/all.json --sheet WORK/all.png"
        ),
    );
    let all = json(work.join("all.json"));
    assert_eq!(all["not_measured"], json!({}), "{printed}");
    assert_eq!(all["measured_with"]["sampling"]["temperature"], 0.5);
    let without_provenance = |mut result: Value| {
        result.as_object_mut().unwrap().remove("measured_with");
        result
    };
    let alone = |metric: &str, options: &str| {
        dalle(work, &format!("eval {metric} {options} --json WORK/alone.json --report WORK/alone.html"));
        without_provenance(json(work.join("alone.json")))
    };
    let features = "--features WORK/lite0.safetensors";
    let style = alone("style", &format!("{on} {features} --captions 4 --drawings 40"));
    assert_eq!(all["style"], style);
    // Four captions ask for a style and four for a background; each is shown with its drawing.
    check_report(work.join("alone.html"), 16);
    let confusion: u64 = style["style"]["confusion"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!((confusion, style["style"]["samples"].as_u64()), (4, Some(4)));
    // Filled and hollow shapes are told apart even by random features, and the borders are exactly white or pink.
    assert_eq!(style["style"]["classifier"]["accuracy"], 1.0, "{style}");
    assert_eq!(style["background"]["true_drawings_right"], 1.0, "{style}");

    let unseen = alone("unseen-style", &format!("{on} {features} --captions 4 --among 4 --best-of 2"));
    assert_eq!(all["unseen_style"], unseen);
    check_report(work.join("alone.html"), 3);
    // Only the outline of the second concept is held out for its style; 22 other drawings on white are trained on, less one.
    assert_eq!((&unseen["captions"], &unseen["training_images"]), (&json!(1), &json!(21)));
    assert_eq!(unseen["nearest"][0]["held_out"], "outline-1-white");

    let composites = alone("composites", &format!("{on} {features} --captions 4 --among 4 --best-of 2"));
    assert_eq!(all["composites"], composites);
    assert_eq!(composites["held_out_pairs"]["truth"]["images"], 4);
    // The objects of true composites are found where they are, and counted.
    for pairs in ["held_out_pairs", "training_pairs"] {
        assert_eq!(
            composites[pairs]["truth"],
            json!({ "images": 4, "both": 1.0, "sides": 1.0, "one": 1.0 }),
            "{composites}"
        );
    }
    assert_eq!(composites["counts"]["true_images_right"], 1.0, "{composites}");

    let clip = alone("clip-retrieval", "--model WORK/model --data WORK/data --among 4 --captions 500");
    assert_eq!(all["clip_retrieval"], clip);
    let subsets: Vec<&str> =
        clip["subsets"].as_array().unwrap().iter().map(|subset| subset["subset"].as_str().unwrap()).collect();
    assert_eq!(subsets, ["unseen concepts", "unseen pairs", "training split"]);

    let best = alone("best-of-n", &format!("{on} --captions 6 --n 1,2"));
    assert_eq!(all["best_of_n"], best);
    let captions = alone("captions WORK/captions.txt", "--model WORK/model --seed 3 --best-of 2");
    assert_eq!(all["captions"], captions);
    let asked: Vec<&str> =
        captions["each"].as_array().unwrap().iter().map(|each| each["caption"].as_str().unwrap()).collect();
    assert_eq!(asked, ["a red square", "2 blue bars"]);
    let html = fs::read_to_string(work.join("alone.html")).unwrap();
    assert_eq!(html.matches("type=\"radio\"").count(), 4);

    // A person's marks belong to samples, which also depend on the temperature: it is part of the key that a browser keeps them by.
    let identity = |html: &str| {
        let data =
            html.split("type=\"application/json\">").nth(1).unwrap().split("</script>").next().unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        data["identity"].as_str().unwrap().to_owned()
    };
    let of_captions = identity(&html);
    assert!(of_captions.contains("seed 3, temperature 0.5"), "{of_captions}");

    // The report has a chapter for each metric, and its contact sheet the captions.
    let html = fs::read_to_string(work.join("all.html")).unwrap();
    for chapter in [
        "Ordinary captions",
        "Reconstruction quality",
        "The best of N",
        "CLIP scores",
        "FD-lite0",
        "Style and background",
        "Concepts in an unseen style",
        "Composites",
        "Retrieval by CLIP",
    ] {
        assert!(html.contains(&format!("<h2>{chapter}")), "{chapter}");
    }
    assert_eq!(identity(&html), of_captions);
    assert!(image::open(work.join("all.png")).is_ok());
}

#[test]
fn what_a_dataset_or_model_lacks_is_named() {
    let folder = workshop();
    let work = folder.path();
    // The same drawings as a dataset without styles, and a model without CLIP.
    fs::create_dir(work.join("pictures")).unwrap();
    for (name, number) in concepts() {
        let mut image = RgbImage::from_pixel(32, 32, Rgb(WHITE));
        draw(&mut image, number, "flat", (5, 5, 22));
        image.save(work.join(format!("pictures/{number}.png"))).unwrap();
        fs::write(work.join(format!("pictures/{number}.txt")), name).unwrap();
    }
    dalle(work, "data build --images WORK/pictures --size 32 --val 0.2 --out WORK/plain");
    fs::remove_file(work.join("model/clip.safetensors")).unwrap();
    fs::remove_file(work.join("model/clip.json")).unwrap();
    let on = "--model WORK/model --data WORK/plain --json WORK/r.json";
    let features = "--features WORK/lite0.safetensors";
    for (command, expected) in [
        (format!("style {on} {features}"), "several styles"),
        (format!("unseen-style {on} {features}"), "held_out.styles"),
        (format!("composites {on} {features}"), "composites.pairs"),
        (format!("composites {on} {features} --among 1"), "--among"),
        (format!("unseen-style {on} {features} --among 1"), "--among"),
        (format!("clip-retrieval {on}"), "clip"),
        ("captions WORK/none.txt --model WORK/model --json WORK/r.json".to_owned(), "none.txt"),
    ] {
        let refused = refusal(work, &format!("eval {command}"));
        assert!(refused.contains(expected), "{command}: {refused}");
    }
    assert!(!work.join("r.json").exists());
    fs::write(work.join("captions.txt"), "a dog\n").unwrap();
    dalle(work, &format!("eval all {on} {features} --captions-file WORK/captions.txt --captions 4"));
    let all = json(work.join("r.json"));
    let missing: Vec<&String> = all["not_measured"].as_object().unwrap().keys().collect();
    assert_eq!(missing, ["best_of_n", "clip_retrieval", "composites", "style", "unseen_style"]);
    assert_eq!(all["captions"]["best_of"], 1);
    assert!(
        all["retrieval"]["top_1"].is_number()
            && all["fidelity"]["rows"].is_array()
            && all["reconstruction"]["psnr"].is_number()
    );
}

//! CLIP with the `dalle` command: training, resuming after a kill, and reranking.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod workshop;

use std::fs;

use dalle_shared::NEAR_TIE;
use image::Rgb;
use workshop::{Workshop, run_with_kills};

/// A workshop with a model folder `model`, complete except for CLIP. Its samples are noise, which is enough for these tests.
fn with_model() -> Workshop {
    let workshop = Workshop::new();
    workshop.run(&workshop.dvae("model", 2, ""));
    workshop.run(&workshop.prior("model", 3));
    workshop
}

fn json(workshop: &Workshop, name: &str) -> serde_json::Value {
    serde_json::from_slice(&fs::read(workshop.path(name)).unwrap()).unwrap()
}

#[test]
fn clip_learns_to_match_captions_and_more_samples_score_higher() {
    let workshop = with_model();
    workshop.run(&workshop.clip("model", 400, ""));
    let curve = image::open(workshop.path("model-clip/curve.png")).unwrap().to_rgb8();
    assert!(curve.pixels().any(|pixel| *pixel == Rgb([36, 99, 179])), "no line in the curve");

    let measured = |measure: &str, captions: usize, more: &str| {
        let printed = workshop.run(&format!(
            "eval {measure} --model {} --data {} --captions {captions} --temperature 1 --json {} {more}",
            workshop.path("model").display(),
            workshop.path("data").display(),
            workshop.path("result.json").display()
        ));
        (printed, json(&workshop, "result.json"))
    };
    let number = |value: &serde_json::Value| value.as_f64().unwrap();

    let (printed, scores) = measured("clip-score", 12, "");
    assert!(printed.contains("true drawings"), "{printed}");
    // Twelve drawings that differ in colour and position; chance is 1 in 12.
    assert!(number(&scores["drawings_top_1"]) > 0.5, "{scores}");
    assert!(number(&scores["drawings"]) > number(&scores["shuffled"]) + 0.2, "{scores}");

    let (sheet, page) = (workshop.path("sheet.png"), workshop.path("page.html"));
    let more = format!("--n 4,1,2 --sheet {} --report {}", sheet.display(), page.display());
    let (printed, best) = measured("best-of-n", 4, &more);
    assert_eq!(printed.lines().count(), 4, "{printed}");
    let points = best["points"].as_array().unwrap();
    let of = |key: &str| points.iter().map(|point| number(&point[key])).collect::<Vec<_>>();
    assert_eq!(of("n"), [1.0, 2.0, 4.0]);
    assert!(of("score").is_sorted() && of("score")[2] > of("score")[0], "{best}");
    assert!(image::open(sheet).unwrap().width() > 4 * 32);
    assert!(fs::read_to_string(page).unwrap().contains("best of 4"));
    // CLIP features find overlap, as in the paper, here with held-out drawings.
    let (split, overlap) = (workshop.path("split").display().to_string(), workshop.path("overlap.json"));
    let pictures = workshop.path("pictures").display().to_string();
    workshop.run(&format!("data build --images {pictures} --size 32 --val 0.5 --out {split}"));
    workshop.run(&format!(
        "eval overlap --train {split} --validation {split} --features {} --json {}",
        workshop.path("model").display(),
        overlap.display()
    ));
    let found = json(&workshop, "overlap.json");
    let cosines: Vec<f64> =
        found["pairs"].as_array().unwrap().iter().map(|pair| number(&pair["cosine"])).collect();
    assert!(found["network"].as_str().unwrap().contains("CLIP") && !cosines.is_empty(), "{found}");
    assert!(cosines.is_sorted_by(|a, b| a >= b) && cosines[0] <= 1.0001, "{found}");

    // The best of one sample is that sample: the other command gives the same score.
    let (_, scores) = measured("clip-score", 4, "");
    assert!((number(&scores["samples"]) - of("score")[0]).abs() < 1e-5, "{scores} {best}");
}

#[test]
fn best_of_is_sorted_by_score_and_each_image_is_that_of_its_seed() {
    let workshop = with_model();
    workshop.run(&workshop.clip("model", 5, ""));
    let sample = |more: &str| {
        let mut command = workshop.command(&format!(
            "sample --model {} --out {} --tokens {} --temperature 1 {more}",
            workshop.path("model").display(),
            workshop.path("sheet.png").display(),
            workshop.path("tokens.json").display()
        ));
        let output = command.arg("a red square on the left").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // More than one batch.
    let printed = sample("--best-of 35 --show 35 --seed 7");
    let sheet = image::open(workshop.path("sheet.png")).unwrap();
    assert!(sheet.width() > 4 * 32 && sheet.height() > 9 * 32);
    let field = |line: &str, name: &str| -> f64 {
        let rest = line.split(name).nth(1).unwrap();
        rest.split([',', ' ']).next().unwrap().parse().unwrap()
    };
    let shown: Vec<&str> = printed.lines().filter(|line| line.contains("seed")).collect();
    let scores: Vec<f64> = shown.iter().map(|line| field(line, "score ")).collect();
    // Those that are nearly the highest come first, in another order.
    let highest = scores.iter().copied().fold(f64::MIN, f64::max);
    // Scores are printed rounded.
    let least = highest - f64::from(NEAR_TIE) - 1e-3;
    let near = scores.iter().take_while(|&&score| score >= least).count();
    assert!(scores[near..].is_sorted_by(|a, b| a >= b) && scores[0] > scores[34], "{printed}");
    assert!(scores[near..].iter().all(|&score| score < least + 2e-3), "{printed}");
    let mut seeds: Vec<u64> = shown.iter().map(|line| field(line, "seed ") as u64).collect();
    let best = seeds[0];
    seeds.sort_unstable();
    assert_eq!(seeds, (7..42).collect::<Vec<_>>());

    let tokens = json(&workshop, "tokens.json");
    assert!(sample("--best-of 35 --seed 7").starts_with(&shown[..8].join("\n")));
    sample(&format!("--seed {best}"));
    assert_eq!(json(&workshop, "tokens.json"), tokens);
    sample(&format!("--seed {}", best + 1));
    assert_ne!(json(&workshop, "tokens.json"), tokens);
}

#[test]
fn a_killed_clip_run_ends_like_an_undisturbed_one() {
    let workshop = with_model();
    let arguments = workshop.clip("model", 40, "--bpe-dropout 0.1 --reconstructed 0.5 --ewma 0.9");
    workshop.run(&arguments);
    let weights = workshop.path("model/clip.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::remove_file(&weights).unwrap();
    let killed = arguments.replace("model-clip", "killed-clip");
    run_with_kills(&workshop, &format!("{killed} --save-seconds 0"), "killed-clip");
    assert!(fs::read(&weights).unwrap() == whole);
    // Reconstructions differ from the drawings.
    let plain = killed.replace("killed-clip", "plain-clip").replace("--reconstructed 0.5", "--overwrite");
    workshop.run(&plain);
    assert!(fs::read(&weights).unwrap() != whole);
}

#[test]
fn invalid_options_of_reranking_and_clip_are_refused_with_a_remedy() {
    let workshop = with_model();
    let model = workshop.path("model").display().to_string();
    let sample = |more: &str| workshop.fail(&format!("sample x --model {model} --out x.png {more}"));
    let complaint = sample("--best-of 4");
    assert!(complaint.contains("clip.json") && complaint.contains("dalle clip train"), "{complaint}");
    for wrong in
        ["--show 2", "--best-of 4 --samples 2", "--best-of 0", "--best-of 4 --show 5", "--best-of 4 --show 0"]
    {
        let complaint = sample(wrong);
        let option = if wrong.contains("--show") { "--show" } else { "--best-of" };
        assert!(complaint.contains(option), "{wrong}: {complaint}");
    }
    // The last batch also exceeds the memory, but the batch size is reported first.
    for batch in ["1", "13", "65536"] {
        let arguments = workshop.clip("model", 5, "").replace("--batch 6", &format!("--batch {batch}"));
        assert!(workshop.fail(&arguments).contains("--batch: expected at least 2"), "{batch}");
    }
    let config = workshop.path("wrong.json");
    let tiny = include_str!("../../../configs/tiny.clip.json");
    let with = |from: &str, to: &str| {
        assert!(tiny.contains(from), "{tiny}");
        fs::write(&config, tiny.replace(from, to)).unwrap();
        let arguments = workshop.clip("model", 5, "");
        workshop.fail(&arguments.replace(workshop::CLIP_CONFIG, &config.display().to_string()))
    };
    let complaint = with("\"patch\": 8", "\"patch\": 7");
    assert!(complaint.contains("`patch` must divide"), "{complaint}");
    // 3 · 10¹² weights in each tower.
    let complaint = with("\"width\": 32, \"layers\": 2", "\"width\": 16384, \"layers\": 1024");
    assert!(complaint.contains("cpu has ") && complaint.contains("not even --batch 1"), "{complaint}");
    assert!(!workshop.path("model/clip.json").exists());

    // CLIP depends on one tokenizer.
    workshop.run(&workshop.clip("model", 2, ""));
    let tokenizer = workshop.path("model/tokenizer.json");
    let mut text = fs::read_to_string(&tokenizer).unwrap();
    text.push('\n');
    fs::write(&tokenizer, text).unwrap();
    let complaint = sample("--best-of 4");
    assert!(complaint.contains("another tokenizer.json"), "{complaint}");
}

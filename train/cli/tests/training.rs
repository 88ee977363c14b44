//! The `dalle` command from training images to samples, on a model that trains in seconds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod workshop;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};
use workshop::{Workshop, files, weights};

#[test]
fn from_training_images_to_samples() {
    let workshop = Workshop::new();
    workshop.run(&workshop.dvae(
        "model",
        500,
        "--final-step-size 0.001 --beta 15 --beta-updates 1 --tau-updates 500 --ewma 0.9",
    ));
    workshop.run(&workshop.prior("model", 800));
    let model = workshop.path("model");
    for name in
        ["config.json", "tokenizer.json", "model.safetensors", "encoder.safetensors", "decoder.safetensors"]
    {
        assert!(model.join(name).is_file(), "{name}");
    }
    for run in ["model-run", "model-prior"] {
        let curve = image::open(workshop.path(run).join("curve.png")).unwrap().to_rgb8();
        assert!(curve.pixels().any(|pixel| *pixel == Rgb([36, 99, 179])), "{run}: no line in the curve");
    }

    // The same caption and seed give the same image, and another caption another image.
    let sample = |caption: &str, out: &str| {
        let (out, tokens) = (workshop.path(out), workshop.path("tokens.json"));
        let mut command = workshop.command("sample");
        command.arg(caption).arg("--model").arg(&model).arg("--out").arg(&out).arg("--tokens").arg(&tokens);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("tokens per second"));
        image::open(out).unwrap().to_rgb8()
    };
    assert!(sample("a blue square on the right", "a.png") != sample("a yellow square on the left", "b.png"));
    let picture = sample("a red square on the left", "c.png");
    assert_eq!(picture.dimensions(), (32, 32));
    assert!(picture == sample("a red square on the left", "d.png"));
    // The tokens decode to the image.
    workshop.run(&format!(
        "dvae decode {} --model {} --out {}",
        workshop.path("tokens.json").display(),
        model.display(),
        workshop.path("e.png").display()
    ));
    assert!(picture == image::open(workshop.path("e.png")).unwrap().to_rgb8());

    let drawing = workshop.path("pictures").join("red-left.png");
    let encoded = workshop.path("red.json");
    workshop.run(&format!(
        "dvae encode {} --model {} --out {}",
        drawing.display(),
        model.display(),
        encoded.display()
    ));
    let grid: serde_json::Value = serde_json::from_slice(&fs::read(encoded).unwrap()).unwrap();
    assert_eq!((grid["grid"].as_u64(), grid["tokens"].as_array().map(Vec::len)), (Some(4), Some(16)));

    rows_of_an_image_are_kept(&workshop, &model, &drawing);

    let (sheet, json) = (workshop.path("sheet.png"), workshop.path("retrieval.json"));
    let printed = workshop.run(&format!(
        "eval retrieval --model {} --data {} --captions 12 --sheet {} --json {}",
        model.display(),
        workshop.path("data").display(),
        sheet.display(),
        json.display()
    ));
    assert!(printed.contains("top-1"), "{printed}");
    let result: serde_json::Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    // Chance is 1 in 12. After seconds of training, anything better is enough.
    assert!(result["top_1"].as_f64().unwrap() > 1.5 / 12.0, "{result}");
    assert!(image::open(sheet).unwrap().width() > 128);
}

/// `dalle sample` from the first rows of an image.
fn rows_of_an_image_are_kept(workshop: &Workshop, model: &Path, drawing: &Path) {
    let sample = |caption: &str, more: &str| {
        let (out, tokens) = (workshop.path("begun.png"), workshop.path("begun.json"));
        let mut command = workshop.command(&format!("sample --seed 3 --temperature 2 {more}"));
        command.arg(caption).arg("--model").arg(model).arg("--out").arg(out).arg("--tokens").arg(&tokens);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            return Err(said);
        }
        let json: serde_json::Value = serde_json::from_slice(&fs::read(tokens).unwrap()).unwrap();
        Ok(serde_json::from_value::<Vec<u16>>(json["tokens"].clone()).unwrap())
    };
    let read = |name: &str| -> Vec<u16> {
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(workshop.path(name)).unwrap()).unwrap();
        serde_json::from_value(json["tokens"].clone()).unwrap()
    };
    let (drawing, encoded) = (drawing.display(), workshop.path("red.json"));
    let encoded = encoded.display();
    // On the other side of the image, so that its own first rows differ from the given ones.
    let yellow = "a yellow square on the right";
    let free = sample(yellow, "").unwrap();
    let begun = sample(yellow, &format!("--image {drawing} --rows 2")).unwrap();
    assert_eq!((&begun[..8], begun.len()), (&read("red.json")[..8], 16), "two rows of four tokens stay");
    assert_ne!(begun[..8], free[..8]);
    assert_eq!(sample(yellow, &format!("--image-tokens {encoded} --rows 2")).unwrap(), begun);

    // An image's own first rows with the same seed give the same image.
    let own = workshop.path("own.json");
    fs::write(&own, serde_json::json!({ "grid": 4, "tokens": free }).to_string()).unwrap();
    let own = own.display();
    assert_eq!(sample(yellow, &format!("--image-tokens {own} --rows 3")).unwrap(), free);

    // Of an image of another size, the middle square is scaled.
    let (wide, square) = (workshop.path("wide.png"), workshop.path("square.png"));
    let mut bands =
        RgbImage::from_fn(128, 64, |x, y| if y < 20 + x / 4 { Rgb([250, 0, 0]) } else { Rgb([0, 0, 250]) });
    bands.save(&wide).unwrap();
    let middle = image::imageops::crop(&mut bands, 32, 0, 64, 64).to_image();
    image::imageops::resize(&middle, 32, 32, image::imageops::FilterType::Lanczos3).save(&square).unwrap();
    let of = |path: &Path| sample(yellow, &format!("--image {} --rows 2", path.display())).unwrap();
    assert_eq!(of(&wide), of(&square));

    for (wrong, words) in [
        (format!("--image {drawing} --rows 4"), "--rows: expected 1 to 3"),
        (format!("--image {drawing} --rows 0"), "got 0"),
        (format!("--image {drawing}"), "--rows"),
        ("--rows 2".to_owned(), "--image"),
        (format!("--image {drawing} --image-tokens {encoded} --rows 2"), "cannot be used with"),
        ("--image nowhere.png --rows 2".to_owned(), "cannot read the image nowhere.png: No such file"),
    ] {
        let complaint = sample(yellow, &wrong).unwrap_err();
        assert!(complaint.contains(words), "{wrong}: {complaint}");
    }
    let (encoder, aside) = (model.join("encoder.safetensors"), workshop.path("aside"));
    fs::rename(&encoder, &aside).unwrap();
    let complaint = sample(yellow, &format!("--image {drawing} --rows 2")).unwrap_err();
    assert!(complaint.contains("encoder.safetensors"), "{complaint}");
    assert_eq!(sample(yellow, &format!("--image-tokens {encoded} --rows 2")).unwrap(), begun, "needs none");
    fs::rename(&aside, &encoder).unwrap();
}

#[test]
fn a_run_that_diverges_says_so_and_writes_no_model() {
    let workshop = Workshop::new();
    let complaint = workshop.fail(&workshop.dvae("model", 40, "").replace("0.004", "1e30"));
    assert!(complaint.contains("diverged") || complaint.contains("not a number"), "{complaint}");
    assert!(!workshop.path("model").exists());
    for wrong in [
        "--batch 0",
        "--steps 0",
        "--learning-rate nan",
        "--tau 0",
        "--ewma 5",
        "--log-every 0",
        "--halvings 65",
        "--halvings 4000000000",
    ] {
        let complaint = workshop.fail(&format!("dvae train --config x --data x --run x --out x {wrong}"));
        let option = wrong.split(' ').next().unwrap();
        assert!(complaint.contains(option), "{wrong}: {complaint}");
    }
}

/// Trains a dVAE. Returns the warnings on stderr and in the checkpoint.
fn warned(workshop: &Workshop, name: &str, more: &str) -> [Vec<String>; 2] {
    let output = workshop.output(&workshop.dvae(name, 120, &format!("--log-every 10 {more}")));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    let said = log.lines().filter_map(|line| line.strip_prefix("WARNING: ")).map(str::to_owned).collect();
    let state = workshop.state(&format!("{name}-run"));
    let warnings = state["warnings"].as_object().unwrap();
    [said, warnings.values().map(|text| text.as_str().unwrap().to_owned()).collect()]
}

#[test]
fn codebook_collapse_and_diverging_bounds_are_each_reported_once() {
    let workshop = Workshop::new();
    let [said, kept] = warned(&workshop, "well", "--beta 15 --beta-updates 1 --tau-updates 60");
    assert!(said.is_empty() && kept.is_empty(), "{said:?}");

    // Without the KL term all positions use the same entry.
    let [said, kept] = warned(&workshop, "collapsed", "--beta 0");
    assert!(said.len() == 1 && said[0].contains("collapsed") && said[0].contains("--beta"), "{said:?}");
    assert_eq!(said, kept);

    // At such a high temperature all codes are nearly uniform mixtures, and the decoder relies on their small differences.
    let [said, kept] = warned(&workshop, "apart", "--beta 3 --beta-updates 1 --tau 20");
    assert!(said.len() == 1 && said[0].contains("drifted apart") && said[0].contains("--tau"), "{said:?}");
    assert_eq!(said, kept);
}

#[test]
fn other_files_in_a_model_folder_are_kept_and_a_foreign_folder_is_refused() {
    let workshop = Workshop::new();
    workshop.run(&workshop.dvae("model", 2, ""));
    fs::create_dir(workshop.path("model/notes")).unwrap();
    fs::write(workshop.path("model/notes/mine.txt"), "mine").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("..", workshop.path("model/notes/up")).unwrap();
    workshop.run(&workshop.dvae("model", 2, ""));
    assert_eq!(fs::read(workshop.path("model/notes/mine.txt")).unwrap(), b"mine");
    #[cfg(unix)]
    assert_eq!(fs::read_link(workshop.path("model/notes/up")).unwrap(), std::path::Path::new(".."));

    fs::create_dir(workshop.path("foreign")).unwrap();
    fs::write(workshop.path("foreign/mine.txt"), "mine").unwrap();
    let complaint = workshop.fail(&workshop.dvae("foreign", 2, ""));
    assert!(complaint.contains("config.json"), "{complaint}");
    assert!(!workshop.path("foreign-run").exists(), "no training was started");
}

#[test]
fn another_codebook_is_not_written_beside_a_prior() {
    let workshop = Workshop::new();
    workshop.run(&workshop.dvae("model", 2, ""));
    fs::write(workshop.path("model/model.safetensors"), "a prior").unwrap();
    let before = weights(&workshop.path("model"));
    let other = workshop.dvae("model", 2, "--seed 1").replace("model-run", "other-run");
    let complaint = workshop.fail(&other);
    assert!(complaint.contains("codebook of another encoder"), "{complaint}");
    assert_eq!(weights(&workshop.path("model")), before);
}

#[test]
fn a_decoder_trained_alone_keeps_the_codes_that_a_prior_was_trained_on() {
    let workshop = Workshop::new();
    workshop.run(&workshop.dvae("model", 2, ""));
    fs::write(workshop.path("model/model.safetensors"), "a prior").unwrap();
    let model = workshop.path("model");
    let before = weights(&model);
    let again = workshop.dvae("model", 3, "--decoder-only").replace("model-run", "decoder-run");
    let complaint = workshop.fail(&again);
    assert!(complaint.contains("--init"), "{complaint}");
    workshop.run(&format!("{again} --init {}", model.display()));
    let after = weights(&model);
    assert_eq!(after[0], before[0]);
    assert!(after[1] != before[1], "the decoder has not changed");

    let exported = workshop.path("exported");
    let run = workshop.path("decoder-run");
    workshop.run(&format!("export --run {} --out {}", run.display(), exported.display()));
    assert_eq!(weights(&exported), after);

    let other = workshop.dvae("other", 3, "").replace("tiny.json", "bench.json");
    let complaint = workshop.fail(&format!("{other} --init {}", model.display()));
    assert!(complaint.contains("expected the same sizes"), "{complaint}");
}

#[test]
fn many_images_are_encoded_line_by_line_and_transparency_is_white() {
    let workshop = Workshop::new();
    workshop.run(&workshop.dvae("model", 2, ""));
    image::RgbaImage::new(32, 32).save(workshop.path("clear.png")).unwrap();
    RgbImage::from_pixel(32, 32, Rgb([255; 3])).save(workshop.path("white.png")).unwrap();
    let path = |name: &str| workshop.path(name).display().to_string();
    let model = path("model");
    let (clear, white, lines) = (path("clear.png"), path("white.png"), path("tokens.jsonl"));
    workshop.run(&format!("dvae encode {clear} {white} --model {model} --out {lines}"));
    let text = fs::read_to_string(&lines).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["tokens"]), (2, &lines[1]["tokens"]));
    assert_eq!(lines[1]["name"], white);

    let (dataset, all) = (path("data"), path("all.jsonl"));
    workshop.run(&format!("dvae encode {dataset} --model {model} --out {all}"));
    assert_eq!(fs::read_to_string(&all).unwrap().lines().count(), 12);
}

#[test]
fn a_prior_can_start_from_the_weights_of_another() {
    let workshop = Workshop::new();
    workshop.run(&workshop.dvae("model", 2, ""));
    workshop.run(&workshop.prior("model", 3));
    // Compared by name and as numbers, because a zero may lose its sign.
    let values = || -> BTreeMap<String, Vec<f32>> {
        let bytes = fs::read(workshop.path("model").join("model.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let read = |data: &[u8]| {
            data.as_chunks::<2>().0.iter().map(|&bytes| half::f16::from_le_bytes(bytes).to_f32()).collect()
        };
        file.iter().map(|(name, view)| (name.to_owned(), read(view.data()))).collect()
    };
    let before = values();
    // A learning rate too small to change 16-bit weights.
    let tiny =
        workshop.prior("model", 1).replace("model-prior", "second-prior").replace("0.003", "0.000000001");
    workshop.run(&format!("{tiny} --init {}", workshop.path("model").display()));
    assert!(values() == before);
    workshop.run(&format!("{} --overwrite", tiny.replace("second-prior", "third-prior")));
    assert!(values() != before, "random weights differ");
}

#[test]
fn export_writes_the_model_folder_that_training_writes() {
    let workshop = Workshop::new();
    let path = |name: &str| workshop.path(name).display().to_string();
    let export =
        |run: &str, out: &str, more: &str| format!("export --run {} --out {} {more}", path(run), path(out));
    workshop.run(&workshop.dvae("model", 6, "--save-seconds 0"));
    workshop.run(&export("model-run", "export", ""));
    assert!(files(&workshop.path("export")) == files(&workshop.path("model")));
    workshop.run(&workshop.prior("model", 3));
    workshop.run(&export("model-prior", "export", ""));
    assert!(files(&workshop.path("export")) == files(&workshop.path("model")));
    workshop.run(&workshop.clip("model", 3, "--ewma 0.5"));
    workshop.run(&export("model-clip", "export", ""));
    assert!(files(&workshop.path("export")) == files(&workshop.path("model")));

    // The previous checkpoint and the raw weights differ.
    let whole = weights(&workshop.path("model"));
    for (out, more) in [("before", "--step 5"), ("raw", "--raw")] {
        let printed = workshop.run(&export("model-run", out, more));
        assert!(printed.contains("wrote the dvae after update"), "{printed}");
        assert!(weights(&workshop.path(out)) != whole, "{out}");
    }
    let complaint = workshop.fail(&export("model-run", "none", "--step 1"));
    assert!(
        complaint.contains("no checkpoint after update 1; it has step-000000005, step-000000006"),
        "{complaint}"
    );
    let complaint = workshop.fail(&export("model-prior", "before", ""));
    assert!(complaint.contains("another encoder"), "{complaint}");
    let complaint = workshop.fail(&export("nothing", "none", ""));
    assert!(complaint.contains("is not a run folder"), "{complaint}");
    assert!(!workshop.path("none").exists());
}

#[test]
fn validation_and_sheets_use_held_out_data() {
    let workshop = Workshop::new();
    let (pictures, split) = (workshop.path("pictures"), workshop.path("split"));
    workshop.run(&format!(
        "data build --images {} --size 32 --val 0.4 --out {}",
        pictures.display(),
        split.display()
    ));
    let data = workshop.path("data").display().to_string();
    let on_split = |command: String| {
        command.replace(&data, &split.display().to_string()).replace("--batch 6", "--batch 2")
    };
    let more = "--validate-every 2 --sheet-every 3 --save-seconds 0 --log-every 4";
    workshop.run(&on_split(workshop.dvae("model", 5, more)));
    workshop.run(&on_split(format!("{} {more}", workshop.prior("model", 5))));
    workshop.run(&on_split(workshop.clip("model", 5, &more.replace("--sheet-every 3", "--accumulate 2"))));
    for (run, metrics) in [
        ("model-run", vec!["validation loss", "validation kl", "validation reconstruction"]),
        ("model-prior", vec!["validation loss", "validation image loss", "validation text loss"]),
        ("model-clip", vec!["validation loss", "validation retrieval"]),
    ] {
        let state = workshop.state(run);
        for name in metrics {
            let steps =
                state["history"][name].as_array().unwrap().iter().map(|pair| pair[0].as_u64().unwrap());
            assert_eq!(steps.collect::<Vec<_>>(), [2, 4, 5], "{run} {name}");
        }
        let best = state["best"]["step"].as_u64().unwrap();
        assert!(workshop.path(run).join(format!("checkpoints/step-{best:09}/state.json")).is_file());
    }
    for run in ["model-run", "model-prior"] {
        for step in [3, 5] {
            let sheet = image::open(workshop.path(run).join(format!("sheets/step-{step:09}.png"))).unwrap();
            assert!(sheet.width() > 32, "{run}");
        }
    }
    let best = workshop.run(&format!(
        "export --run {} --best --out {}",
        workshop.path("model-run").display(),
        workshop.path("best").display()
    ));
    assert!(
        best.contains(&format!("after update {}", workshop.state("model-run")["best"]["step"])),
        "{best}"
    );

    for (wrong, words) in [
        (workshop.dvae("other", 5, "--validate-every 2"), "with a validation split".to_owned()),
        (workshop.dvae("other", 5, "--plateau-patience 2"), "--validate-every".to_owned()),
        (
            workshop.clip("model", 5, "--accumulate 5"),
            "--accumulate: expected a number that divides --batch".to_owned(),
        ),
        (workshop.clip("model", 5, "--sheet-every 2"), "--sheet-every".to_owned()),
    ] {
        let complaint = workshop.fail(&wrong);
        assert!(complaint.contains(&words), "{wrong}: {complaint}");
    }
}

#[test]
fn gradient_checkpointing_does_not_change_the_weights() {
    let workshop = Workshop::new();
    // Kernels have no use for it, so that this is a CLIP with narrower heads than they support.
    let config = workshop.path("narrow.clip.json");
    let narrow = fs::read_to_string(workshop::CLIP_CONFIG).unwrap().replace("\"heads\": 2", "\"heads\": 4");
    fs::write(&config, narrow).unwrap();
    let clip = |name: &str, steps: u64, more: &str| {
        workshop.clip(name, steps, more).replace(workshop::CLIP_CONFIG, &config.display().to_string())
    };
    let again = "--gradient-checkpointing --ewma 0.9";
    for (name, more) in [("kept", "--ewma 0.9"), ("again", again)] {
        workshop.run(&workshop.dvae(name, 5, "--ewma 0.9"));
        workshop.run(&workshop.prior(name, 5));
        workshop.run(&clip(name, 5, more));
    }
    assert!(
        workshop
            .fail(&workshop.clip("kept", 5, again))
            .contains("--gradient-checkpointing: it has no effect on the CPU")
    );
    assert!(files(&workshop.path("kept")) == files(&workshop.path("again")));
    workshop.run(
        &clip("again", 6, &format!("{again} --accumulate 2 --overwrite")).replace("again-clip", "parts-clip"),
    );
}

#[test]
fn runs_are_plotted_together_and_unknown_metrics_are_refused() {
    let workshop = Workshop::new();
    for name in ["a", "b"] {
        workshop.run(&workshop.dvae(name, 4, "--log-every 1"));
    }
    let (runs, out) = (["a-run", "b-run"].map(|name| workshop.path(name)), workshop.path("runs.png"));
    let curve = |metrics: &str| {
        let [a, b] = runs.each_ref().map(|run| run.display());
        format!("curve first={a} second={b} --metrics {metrics} --out {}", out.display())
    };
    let said = workshop.fail(&curve("loss;height"));
    assert!(said.contains("no run has logged `height`; they have ") && said.contains("loss"), "{said}");
    assert!(!out.exists());
    workshop.run(&curve("loss;kl"));
    let curve = image::open(&out).unwrap().to_rgb8();
    assert_eq!(curve.width(), 1280, "two panels");
    for colour in [Rgb([36, 99, 179]), Rgb([214, 96, 20])] {
        assert!(curve.pixels().any(|pixel| *pixel == colour), "no line in {colour:?}");
    }
    assert!(
        workshop
            .fail(&format!("curve a={} --out {}", workshop.path("x").display(), out.display()))
            .contains("no checkpoint")
    );
}

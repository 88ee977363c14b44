//! `dalle finetune`, on a model that trains in seconds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod workshop;

use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};
use workshop::{Workshop, start, wait_until};

/// Six pictures of a circle, which the model has not seen.
fn own_pictures(folder: &Path) {
    fs::create_dir(folder).unwrap();
    for (number, rgb) in [[250, 120, 0], [120, 0, 250], [0, 120, 120], [90, 90, 90], [250, 0, 250], [0, 0, 0]]
        .into_iter()
        .enumerate()
    {
        let picture = RgbImage::from_fn(40, 40, |x, y| {
            if x.abs_diff(20).pow(2) + y.abs_diff(20).pow(2) < 196 { Rgb(rgb) } else { Rgb([255; 3]) }
        });
        picture.save(folder.join(format!("{number}.png"))).unwrap();
        fs::write(folder.join(format!("{number}.txt")), format!("circle number {number}")).unwrap();
    }
}

#[test]
fn a_copy_of_a_model_learns_own_pictures_and_keeps_the_codebook() {
    let workshop = Workshop::new();
    let [model, own, run, out] = ["model", "own pictures", "run", "mine"].map(|name| workshop.path(name));
    own_pictures(&own);
    let finetune = |out: &Path, more: &str| {
        let mut command = workshop.command("finetune --license CC0-1.0");
        command
            .arg("--model")
            .arg(&model)
            .arg("--images")
            .arg(&own)
            .arg("--run")
            .arg(&run)
            .arg("--out")
            .arg(out);
        command.args(more.split(' '));
        command
    };
    let refusal = |out: &Path, more: &str| {
        let output = finetune(out, more).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let options = "--steps 120 --decoder-steps 20";
    workshop.run(&workshop.dvae("model", 60, "--beta 15 --beta-updates 1 --ewma 0.9"));
    // Without a prior there is nothing to start from.
    let message = refusal(&out, options);
    assert!(message.contains("tokenizer.json") && message.contains("dalle"), "{message}");
    workshop.run(&workshop.prior("model", 60));
    let elsewhere = workshop.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for (out, expected) in [
        (&model, "--out: expected a folder apart from --model"),
        (&run.join("prior"), "--out: expected a folder apart from --run"),
        (&own.join("out"), "--out: expected a folder apart from --images"),
        (&elsewhere, "exists and was not begun by this command"),
    ] {
        let message = refusal(out, options);
        assert!(message.contains(expected), "{message}");
    }
    assert!(!run.exists(), "a refused command leaves nothing behind");

    let names =
        ["config.json", "tokenizer.json", "model.safetensors", "encoder.safetensors", "decoder.safetensors"];
    let read = |folder: &Path| names.map(|name| fs::read(folder.join(name)).unwrap());
    let before = read(&model);
    // Killed while the prior trains, and continued by the same command.
    let mut child = start(finetune(&out, options));
    wait_until("the prior trains", || run.join("prior/metrics.jsonl").exists());
    assert!(!out.join("model.safetensors").exists(), "a model that is not finished has no prior");
    child.kill().unwrap();
    child.wait().unwrap();
    let output = finetune(&out, options).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("dalle prior train --model "), "{errors}");

    assert!(before == read(&model), "the first model has changed");
    let [config, tokenizer, prior, encoder, decoder] = read(&out);
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!((config["name"].as_str(), config["examples"][5].as_str().is_some()), (Some("mine"), true));
    assert!(config["license"].as_str().unwrap().ends_with("pictures: CC0-1.0"), "{config}");
    assert!(tokenizer == before[1] && encoder == before[3], "what the prior knows no longer fits");
    assert!(prior != before[2] && decoder != before[4], "nothing was trained");
    let known: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("vocabulary.json")).unwrap()).unwrap();
    assert_eq!(known["names"].as_object().unwrap().len(), 6, "{known}");
    // Other pictures or another model under the same names are refused, and no other model is touched.
    assert!(refusal(&out, "--steps 120").contains("was begun with other options"));
    assert!(fs::read_to_string(out.join("README.md")).unwrap().contains("6 pictures (licence: CC0-1.0)"));
    let picture = workshop.path("picture.png");
    let mut sample = workshop.command("sample");
    sample.arg("circle number 3").arg("--model").arg(&out).arg("--out").arg(&picture);
    assert!(sample.output().unwrap().status.success());
    assert_eq!(image::open(picture).unwrap().to_rgb8().dimensions(), (32, 32));
}

#[test]
fn a_model_that_must_not_forget_is_trained_on_both_datasets() {
    let workshop = Workshop::new();
    let own = workshop.path("own");
    own_pictures(&own);
    workshop.run(&workshop.dvae("model", 30, "--beta 15 --beta-updates 1 --ewma 0.9"));
    workshop.run(&workshop.prior("model", 30));
    let [model, data, run, out] =
        ["model", "data", "run", "mine"].map(|name| workshop.path(name).display().to_string());
    let options = format!("--model {model} --images {} --run {run} --out {out}", own.display());
    workshop.run(&format!("finetune {options} --keep {data} --steps 10"));
    let known: serde_json::Value =
        serde_json::from_slice(&fs::read(workshop.path("mine/vocabulary.json")).unwrap()).unwrap();
    assert_eq!(known["names"].as_object().unwrap().len(), 6 + 12, "{known}");
    // More updates continue it.
    workshop.run(&format!("finetune {options} --keep {data} --steps 20"));
    assert_eq!(workshop.state("run/prior")["step"], 20);
}

//! Token datasets: made by `dalle dvae encode --data` or in a run folder, read by `dalle prior train`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod workshop;

use std::fs;
use std::path::{Path, PathBuf};

use dalle_data::{Entry, Shards, Split};
use workshop::Workshop;

/// A dataset of larger images than the model's, some of them held out, and a dVAE.
fn workshop() -> (Workshop, PathBuf) {
    let workshop = Workshop::new();
    let large = workshop.path("large");
    workshop.run(&format!(
        "data build --images {} --size 48 --val 0.4 --shard-size 5 --out {}",
        workshop.path("pictures").display(),
        large.display()
    ));
    // Long enough for tokens to differ where images do.
    let many_codes = "--beta 15 --beta-updates 1 --tau-updates 500 --ewma 0.9";
    workshop.run(&workshop.dvae("model", 100, many_codes));
    (workshop, large)
}

fn entries(folder: &Path) -> Vec<Entry> {
    Shards::open(folder).unwrap().entries(None).map(Result::unwrap).collect()
}

/// The training command of the prior of `model`, reading `data`.
fn prior(workshop: &Workshop, model: &str, data: &str, run: &str, more: &str) -> String {
    let own = workshop.path("data").display().to_string();
    let command = workshop.prior(model, 4).replace(&format!("--data {own}"), &format!("--data {data}"));
    let default = format!("{}-prior", workshop.path(model).display());
    format!("{} {more}", command.replace(&default, &workshop.path(run).display().to_string()))
}

#[test]
fn shards_of_tokens_train_the_prior_of_their_encoder_and_no_other() {
    let (workshop, large) = workshop();
    let tokens = workshop.path("tokens");
    let (data, model, out) = (large.display(), workshop.path("model"), tokens.display());
    let encode = format!("dvae encode --data {data} --model {} --out {out}", model.display());
    std::fs::write(large.join("vocabulary.json"), "{}").unwrap();
    let said = workshop.run(&format!("{encode} --crops 3"));
    assert!(tokens.join("vocabulary.json").exists(), "the words of the captions are not handed on");
    assert!(said.contains("wrote the tokens of 12 images") && said.contains("3 crops each"), "{said}");

    // Captions, concepts and splits are those of the images; the crops are three different ones.
    let (images, encoded) = (entries(&large), entries(&tokens));
    let mut different = 0;
    for (image, tokens) in images.iter().zip(&encoded) {
        assert_eq!((image.key(), image.record().unwrap()), (tokens.key(), tokens.record().unwrap()));
        let crops = [0, 1, 2].map(|crop| tokens.tokens(crop).unwrap());
        assert!(crops.iter().all(|crop| crop.len() == 16));
        different += usize::from(crops[0] != crops[1] || crops[1] != crops[2]);
    }
    assert_eq!((images.len(), encoded.len()), (12, 12));
    assert!(different > 0, "all crops of all images are the same");
    assert!(encoded.iter().any(|entry| entry.split() == Split::Val));
    // The same seed gives the same tokens; an existing folder is kept.
    assert!(workshop.fail(&encode).contains("--overwrite"));
    let first = fs::read(tokens.join("shard-000000.tar")).unwrap();
    workshop.run(&format!("{encode} --crops 3 --overwrite"));
    assert!(fs::read(tokens.join("shard-000000.tar")).unwrap() == first);

    // The images themselves are never replaced by their tokens.
    let onto_itself = encode.replace(&out.to_string(), &format!("{data} --overwrite"));
    let complaint = workshop.fail(&onto_itself);
    assert!(complaint.contains("expected a folder apart from --data"), "{complaint}");

    workshop.run(&prior(&workshop, "model", &out.to_string(), "run", "--validate-every 2"));
    let in_run: Vec<_> =
        fs::read_dir(workshop.path("run")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(in_run.iter().all(|name| !name.to_string_lossy().starts_with("tokens")), "{in_run:?}");

    workshop.run(&workshop.dvae("other", 2, ""));
    let said = workshop.fail(&prior(&workshop, "other", &out.to_string(), "other-prior", ""));
    assert!(said.contains("holds tokens of another encoder"), "{said}");
    let said = workshop.fail(
        &workshop
            .dvae("third", 4, "")
            .replace(&workshop.path("data").display().to_string(), &out.to_string()),
    );
    assert!(said.contains("holds tokens, expected images"), "{said}");
    assert!(!workshop.path("third-run").exists());
}

#[test]
fn images_are_encoded_once_in_the_run_folder_and_mixed_with_shards_of_tokens() {
    let (workshop, large) = workshop();
    let command = |steps: &str, data: &str| {
        prior(&workshop, "model", data, "run", "--crops 2").replace("--steps 4", steps)
    };
    let large = large.display().to_string();
    workshop.run(&command("--steps 4", &large));
    let tokens = || {
        let inside = fs::read_dir(workshop.path("run")).unwrap().map(|entry| entry.unwrap().path());
        let mut folders: Vec<PathBuf> = inside
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("tokens-"))
            .collect();
        assert_eq!(folders.len(), 1, "{folders:?}");
        folders.remove(0)
    };
    let made = fs::metadata(tokens().join("manifest.json")).unwrap().modified().unwrap();
    assert_eq!(Shards::open(&tokens()).unwrap().manifest().tokens.as_ref().unwrap().crops, 2);
    workshop.run(&command("--steps 6", &large));
    assert_eq!(fs::metadata(tokens().join("manifest.json")).unwrap().modified().unwrap(), made);

    // Other crops are another run.
    let said = workshop.fail(&command("--steps 6", &large).replace("--crops 2", "--crops 1"));
    assert!(said.contains("crops"), "{said}");

    // Images of the model's size have one crop; mixed with the others, by weight.
    let small = workshop.path("small").display().to_string();
    let pictures = workshop.path("pictures").display().to_string();
    workshop.run(&format!("data build --images {pictures} --size 32 --val 0.4 --out {small}"));
    let mixed = format!("{small}=2 --data {large}=1.5");
    workshop.run(&prior(&workshop, "model", &mixed, "mixed", "--overwrite"));
    let said = workshop.fail(&prior(&workshop, "model", &mixed.replace("=2", "=3"), "mixed", ""));
    assert!(said.contains("data"), "other weights are another run: {said}");
}

#[test]
fn images_and_grids_beyond_any_memory_are_refused_before_they_are_coded() {
    let folder = tempfile::tempdir().unwrap();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/models/drawings-128");
    let path = |name: &str| folder.path().join(name);
    let refused = |arguments: String| {
        let mut dalle = std::process::Command::new(env!("CARGO_BIN_EXE_dalle"));
        let output = dalle.args(arguments.split(' ')).arg("--model").arg(model).output().unwrap();
        assert!(!output.status.success(), "{arguments}");
        String::from_utf8(output.stderr).unwrap()
    };
    // 70,000 pixels wide: beyond the longest side; and more pixels than are read.
    for (width, height) in [(70_000, 8), (8_200, 8_200)] {
        image::GrayImage::new(width, height).save(path("wide.png")).unwrap();
        let said =
            refused(format!("dvae encode {} --out {}", path("wide.png").display(), path("t.json").display()));
        assert!(said.contains(&format!("is {width}×{height} pixels; expected at most")), "{said}");
    }
    let tokens = |count: usize| format!("{{\"grid\": 1024, \"tokens\": [{}0]}}", "0, ".repeat(count - 1));
    fs::write(path("many.json"), tokens(1024 * 1025)).unwrap();
    let decode = format!("dvae decode {} --out {}", path("many.json").display(), path("x.png").display());
    let said = refused(decode.clone());
    assert!(said.contains("expected at most 1048576 tokens, got 1049600"), "{said}");
    fs::write(path("many.json"), vec![b' '; 33 << 20]).unwrap();
    assert!(refused(decode).contains("at most"));
    assert!(!path("x.png").exists() && !path("t.json").exists());
}

#[test]
fn coding_more_than_memory_holds_is_refused_before_it_starts() {
    let workshop = Workshop::new();
    // So wide that the maps of a large image need more than a hundred GB.
    let (config, wide) = (workshop.path("wide.json"), workshop.path("wide.png"));
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/tiny.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(tiny).unwrap()).unwrap();
    json["dvae"]["n_hid"] = 256.into();
    fs::write(&config, json.to_string()).unwrap();
    workshop.run(&workshop.dvae("model", 1, "").replace(tiny, &config.display().to_string()));
    let model = workshop.path("model");
    image::GrayImage::new(8192, 4096).save(&wide).unwrap();
    let out = workshop.path("out");
    let said = workshop.fail(&format!(
        "dvae encode {} --model {} --out {}",
        wide.display(),
        model.display(),
        out.display()
    ));
    assert!(said.contains("8192×4096 pixels needs"), "{said}");
    let tokens = workshop.path("tokens.json");
    fs::write(&tokens, format!("{{\"grid\": 1024, \"tokens\": [{}0]}}", "0, ".repeat(1024 * 1024 - 1)))
        .unwrap();
    let out = out.with_extension("png");
    let said = workshop.fail(&format!(
        "dvae decode {} --model {} --out {}",
        tokens.display(),
        model.display(),
        out.display()
    ));
    assert!(said.contains("1024×1024 tokens needs"), "{said}");
    assert!(!out.exists());
}

//! `dalle eval`: from a dataset and a model folder to reports, contact sheets, JSON files and lists of keys.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use dalle_data::{Dataset, Split};
use dalle_shared::sha256_hex;
use image::{Rgb, RgbImage};

use evaluation::{CONFIG, check_report, dalle, json, refusal, untrained_lite0};

mod evaluation;

/// A folder with a dataset of twenty pairs of equal images under different captions, a barely trained model, and random weights of
/// EfficientNet-Lite0.
fn workshop() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path();
    fs::create_dir(work.join("pictures")).unwrap();
    for index in 0..40u32 {
        let drawing = index / 2;
        let (x, y) = (drawing % 5 * 4, drawing / 5 * 5);
        let picture = RgbImage::from_fn(32, 32, |px, py| {
            let inside = (x..x + 12).contains(&px) && (y..y + 12).contains(&py);
            if inside { Rgb([40 * (drawing % 6) as u8, 90, 200]) } else { Rgb([255; 3]) }
        });
        picture.save(work.join(format!("pictures/{index:02}.png"))).unwrap();
        fs::write(work.join(format!("pictures/{index:02}.txt")), format!("square {index}")).unwrap();
    }
    dalle(work, "data build --images WORK/pictures --size 32 --val 0.3 --out WORK/data");
    dalle(work, "tokenizer train --data WORK/data --vocab 300 --out WORK/tokenizer.json");
    dalle(
        work,
        &format!(
            "dvae train --config {CONFIG} --data WORK/data --run WORK/run --out WORK/model --steps 40 --batch 4 --step-size 0.004"
        ),
    );
    dalle(
        work,
        "prior train --model WORK/model --data WORK/data --tokenizer WORK/tokenizer.json --run WORK/prior --steps 2 --batch 4",
    );
    fs::write(work.join("lite0.safetensors"), untrained_lite0()).unwrap();
    folder
}

#[test]
fn every_metric_writes_its_report_and_its_numbers() {
    let folder = workshop();
    let work = folder.path();
    let dataset = Dataset::open(&work.join("data")).unwrap();
    let held_out: Vec<_> = dataset.split(Split::Val).collect();
    let count = held_out.len();
    assert!(count > 4, "{count}");

    // Overlap: exactly the images with a twin in the training split have a cosine of 1.
    let twins: BTreeSet<String> = held_out
        .iter()
        .filter(|held| dataset.split(Split::Train).any(|seen| seen.image().unwrap() == held.image().unwrap()))
        .map(|held| held.key.clone())
        .collect();
    assert!(!twins.is_empty() && twins.len() < count, "{} of {count}", twins.len());
    dalle(
        work,
        "eval overlap --train WORK/data --validation WORK/data --features WORK/lite0.safetensors --model WORK/model --threshold \
         0.99999 --removed WORK/removed.txt --report WORK/overlap.html --json WORK/overlap.json --sheet WORK/overlap.png",
    );
    let removed = fs::read_to_string(work.join("removed.txt")).unwrap();
    assert_eq!(removed.lines().map(str::to_owned).collect::<BTreeSet<_>>(), twins);
    let overlap = json(work.join("overlap.json"));
    assert_eq!(overlap["pairs"].as_array().unwrap().len(), count);
    assert_eq!(overlap["threshold"]["removed"], twins.len());
    check_report(work.join("overlap.html"), 2 * count);

    // Reconstruction of all images and of those that the list leaves equals what overlap reports before and after.
    for (more, when, pictures) in
        [("", "before", count), ("--without WORK/removed.txt", "after", count - twins.len())]
    {
        dalle(
            work,
            &format!(
                "eval reconstruction --model WORK/model --data WORK/data {more} --report WORK/r.html --json WORK/r.json --sheet \
                 WORK/r.png"
            ),
        );
        let result = json(work.join("r.json"));
        assert_eq!(result["pictures"], pictures);
        for (name, place) in [("psnr", 0), ("ssim", 1)] {
            let (alone, within) =
                (result[name].as_f64().unwrap(), overlap["threshold"][when][place].as_f64().unwrap());
            assert!((alone - within).abs() < 1e-9, "{name} {when}: {alone}, {within}");
        }
        check_report(work.join("r.html"), 3 * pictures);
        let options = match more {
            "" => serde_json::json!({ "split": "val" }),
            _ => {
                let lines: String = twins.iter().map(|key| format!("{key}\n")).collect();
                let list = format!("{} keys {}", twins.len(), sha256_hex(lines.as_bytes()));
                serde_json::json!({ "split": "val", "without": list })
            }
        };
        assert_eq!(result["measured_with"]["options"], options);
    }

    // Fidelity: the blur has an effect, and the same command gives the same numbers.
    let fd = |split: &str, out: &str| {
        let printed = dalle(
            work,
            &format!(
                "eval fd --model WORK/model --data WORK/data --features WORK/lite0.safetensors --split {split} --count 5 --radii 0,8 --json \
                 WORK/{out}.json --report WORK/{out}.html"
            ),
        );
        assert!(printed.contains("FD-lite0") && !printed.contains("FID"), "{printed}");
        json(work.join(format!("{out}.json")))
    };
    let result = fd("val", "fd");
    let distance = |row: usize| result["rows"][row]["distance"].as_f64().unwrap();
    assert!(distance(0) > 0.0 && distance(1) > 0.0 && distance(0) != distance(1), "{result}");
    assert_eq!((&result["pictures"], &result["features"]), (&5.into(), &1280.into()));
    assert_eq!(result, fd("val", "again"));
    let of_train = fd("train", "train");
    let options = |split: &str| serde_json::json!({ "split": split, "count": "5", "radii": "0,8" });
    assert_eq!(result["measured_with"]["options"], options("val"));
    assert_eq!(of_train["measured_with"]["options"], options("train"));
    assert!(
        fs::read_to_string(work.join("train.html")).unwrap().contains("; count 5; radii 0,8; split train")
    );
    check_report(work.join("fd.html"), 10);

    dalle(
        work,
        "eval retrieval --model WORK/model --data WORK/data --captions 6 --report WORK/retrieval.html --json WORK/retrieval.json",
    );
    check_report(work.join("retrieval.html"), 12);

    // Each result records its provenance. The folder's hash is the SHA-256 of sha256sum's lines, sorted by name.
    let sha256 = |path: &str| sha256_hex(&fs::read(work.join(path)).unwrap());
    let lines: String =
        ["config.json", "decoder.safetensors", "encoder.safetensors", "model.safetensors", "tokenizer.json"]
            .map(|name| format!("{}  {name}\n", sha256(&format!("model/{name}"))))
            .concat();
    let model = serde_json::json!({ "name": "tiny", "hash": sha256_hex(lines.as_bytes()) });
    let (version, data) = (env!("CARGO_PKG_VERSION"), dataset.hash());
    let sampling = serde_json::json!({ "seed": 0, "temperature": 0.5, "dtype": "f32" });
    let expected = serde_json::json!({ "dalle": version, "model": model, "datasets": [data], "sampling": sampling, "options": { "captions": "6" } });
    assert_eq!(json(work.join("retrieval.json"))["measured_with"], expected);
    let html = fs::read_to_string(work.join("retrieval.html")).unwrap();
    let hash = &model["hash"].as_str().unwrap()[..16];
    assert!(html.contains(&format!("dalle {version}; model tiny {hash}; dataset {}", &data[..16])));
    let mut expected = expected;
    expected["judge"] = sha256("lite0.safetensors").into();
    expected["options"] = options("val");
    assert_eq!(result["measured_with"], expected);
    expected.as_object_mut().unwrap().remove("sampling");
    expected["datasets"] = serde_json::json!([data, data]);
    expected["options"] = serde_json::json!({ "threshold": "0.99999" });
    assert_eq!(overlap["measured_with"], expected);
}

#[cfg(unix)]
#[test]
fn a_report_is_written_for_paths_that_are_not_utf8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let folder = workshop();
    let work = folder.path();
    let model = work.join(OsStr::from_bytes(b"mod\xffl"));
    fs::rename(work.join("model"), &model).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_dalle"))
        .args(["eval", "reconstruction", "--data"])
        .arg(work.join("data"))
        .arg("--report")
        .arg(work.join("r.html"))
        .arg("--model")
        .arg(model)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let html = fs::read_to_string(work.join("r.html")).unwrap();
    assert!(html.contains("Made by <code>dalle eval reconstruction --data "), "{html}");
}

#[test]
fn invalid_inputs_are_refused_before_any_work() {
    let folder = workshop();
    let work = folder.path();
    let nothing = refusal(work, "eval reconstruction --model WORK/model --data WORK/data");
    assert!(nothing.contains("--report") && nothing.contains("--json"), "{nothing}");
    let many = refusal(
        work,
        "eval reconstruction --model WORK/model --data WORK/data --count 1000 --json WORK/r.json",
    );
    assert!(many.contains("images to choose from, expected at least 1000"), "{many}");
    fs::write(work.join("list.txt"), "someone else's\n").unwrap();
    let list = refusal(
        work,
        "eval reconstruction --model WORK/model --data WORK/data --without WORK/list.txt --json WORK/r.json",
    );
    assert!(list.contains("`someone else's`") && list.contains("another dataset"), "{list}");
    let foreign = refusal(
        work,
        "eval fd --model WORK/model --data WORK/data --features WORK/model/encoder.safetensors --json WORK/fd.json",
    );
    assert!(foreign.contains("encoder.safetensors") && foreign.contains("EfficientNet-Lite0"), "{foreign}");
    let list = refusal(work, "eval overlap --train x --validation x --features x --removed y --json z");
    assert!(list.contains("--threshold"), "{list}");
    let page = refusal(work, "eval reconstruction --model x --data x --report page.pdf");
    assert!(page.contains(".html"), "{page}");
    assert!(!work.join("r.json").exists() && !work.join("fd.json").exists());
}

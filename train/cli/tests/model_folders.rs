//! Model folders that training and export write: parts in any order, and no part replaced by accident.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod workshop;

use std::collections::BTreeMap;
use std::fs;

use workshop::Workshop;

/// The files of a folder by name.
fn files(workshop: &Workshop, folder: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(workshop.path(folder)).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn export(workshop: &Workshop, run: &str, out: &str) -> String {
    format!("export --run {} --out {}", workshop.path(run).display(), workshop.path(out).display())
}

/// Writes a safetensors file as older versions did: without metadata.
fn remove_metadata(workshop: &Workshop, file: &str) {
    let bytes = fs::read(workshop.path(file)).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap().tensors();
    fs::write(workshop.path(file), safetensors::serialize(tensors, None).unwrap()).unwrap();
}

#[test]
fn prior_and_dvae_are_exported_into_one_folder_in_either_order() {
    let workshop = Workshop::new();
    workshop.run(&workshop.dvae("model", 2, ""));
    workshop.run(&workshop.prior("model", 2));
    workshop.run(&workshop.dvae("other", 2, "--seed 1"));
    for order in [["model-prior", "model-run"], ["model-run", "model-prior"]] {
        let out = order.join("-");
        for run in order {
            workshop.run(&export(&workshop, run, &out));
        }
        assert!(files(&workshop, &out) == files(&workshop, "model"), "{out}");
    }
    for order in [["model-prior", "other-run"], ["other-run", "model-prior"]] {
        let out = order.join("-");
        workshop.run(&export(&workshop, order[0], &out));
        let before = files(&workshop, &out);
        let complaint = workshop.fail(&export(&workshop, order[1], &out));
        assert!(complaint.contains("another encoder"), "{out}: {complaint}");
        assert!(files(&workshop, &out) == before, "{out}");
    }
    // A prior of an older version does not state its encoder.
    workshop.run(&export(&workshop, "model-prior", "old"));
    remove_metadata(&workshop, "old/model.safetensors");
    let complaint = workshop.fail(&export(&workshop, "model-run", "old"));
    assert!(complaint.contains("does not state the encoder"), "{complaint}");
}

#[test]
fn training_replaces_weights_of_another_run_only_with_overwrite() {
    type Train<'a> = &'a dyn Fn(u64) -> String;

    let workshop = Workshop::new();
    workshop.run(&workshop.dvae("model", 2, ""));
    let prior = |steps| workshop.prior("model", steps);
    let clip = |steps| workshop.clip("model", steps, "");
    for (run, file, train) in
        [("model-prior", "model.safetensors", &prior as Train<'_>), ("model-clip", "clip.safetensors", &clip)]
    {
        workshop.run(&train(2));
        let path = workshop.path("model").join(file);
        let first = fs::read(&path).unwrap();
        let fresh = |steps| format!("{} --seed 1", train(steps)).replace(run, "fresh");

        let complaint = workshop.fail(&fresh(2));
        assert!(complaint.contains(file) && complaint.contains("--overwrite"), "{complaint}");
        assert!(fs::read(&path).unwrap() == first && !workshop.path("fresh").exists());

        // A finished run continues, also one whose weights were written by an older version.
        workshop.run(&train(3));
        remove_metadata(&workshop, &format!("model/{file}"));
        workshop.run(&train(4));
        let own = fs::read(&path).unwrap();
        assert!(own != first);

        workshop.run(&format!("{} --overwrite", fresh(2)));
        assert!(fs::read(&path).unwrap() != own);
        workshop.run(&fresh(3));
        assert!(workshop.fail(&train(5)).contains("--overwrite"), "the other run replaced its weights");
        fs::remove_dir_all(workshop.path("fresh")).unwrap();
    }
}

//! Files of `torch.save` in the legacy and the current format contain the tensors that were saved. `fixtures/torch_files/make.py`
//! writes the files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;

use dalle_import::{Array, CheckpointError, read_checkpoint};

const MODULES: [&str; 4] = [
    "torch.nn.modules.container.Sequential",
    "torch.nn.modules.conv.Conv2d",
    "torch.nn.modules.activation.ReLU",
    "torch.nn.modules.linear.Linear",
];

fn bytes(name: &str) -> Vec<u8> {
    fs::read(format!("{}/tests/fixtures/torch_files/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn read(name: &str) -> BTreeMap<String, Array> {
    read_checkpoint(&bytes(name), &MODULES).unwrap()
}

#[test]
fn tensors_are_read_from_legacy_and_current_files() {
    let expected = read("state.safetensors");
    assert_eq!(expected.len(), 9);
    for age in ["old", "new"] {
        assert_eq!(read(&format!("state.{age}.pt")), expected, "{age}");
    }
}

#[test]
fn modules_are_read_from_legacy_and_current_files() {
    let expected = read("module.safetensors");
    assert_eq!(expected.len(), 4);
    for age in ["old", "new"] {
        assert_eq!(read(&format!("module.{age}.pt")), expected, "{age}");
    }
}

#[test]
fn pickled_numpy_arrays_are_read() {
    for protocol in [2, 5] {
        let arrays = read(&format!("numpy.{protocol}.pkl"));
        let grid = Array { shape: vec![2, 3], values: vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0] };
        let expected = BTreeMap::from([("grid".to_owned(), grid.clone()), ("half".to_owned(), grid)]);
        assert_eq!(arrays, expected, "protocol {protocol}");
    }
    let whole = bytes("numpy.5.pkl");
    for end in 0..whole.len() {
        assert!(read_checkpoint(&whole[..end], &[]).is_err(), "cut at {end}");
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x55;
        let _ = read_checkpoint(&changed, &[]);
    }
}

#[test]
fn a_damaged_legacy_file_never_causes_a_panic() {
    let whole = bytes("state.old.pt");
    for end in 0..whole.len() {
        assert!(read_checkpoint(&whole[..end], &[]).is_err(), "cut at {end}");
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x55;
        let _ = read_checkpoint(&changed, &[]);
    }
    // A storage that claims to be longer than the file.
    let last = whole.windows(8).rposition(|window| window == 5u64.to_le_bytes()).unwrap();
    let mut longer = whole;
    longer[last..last + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    let error = read_checkpoint(&longer, &[]).unwrap_err();
    assert!(matches!(error, CheckpointError::Content { .. }), "{error}");
}

#[test]
fn a_module_that_is_not_expected_is_refused_by_name() {
    for age in ["old", "new"] {
        let error = read_checkpoint(&bytes(&format!("module.{age}.pt")), &MODULES[..3]).unwrap_err();
        assert!(error.to_string().contains("torch.nn.modules.linear.Linear"), "{age}: {error}");
    }
}

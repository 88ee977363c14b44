//! The imported dVAE agrees with OpenAI's package `dall-e` in PyTorch, run in double precision: encoder, decoder, and the commands.
//!
//! `fixtures/openai_dvae/make.py` writes the fixtures at small sizes. With `--full FOLDER` it writes them at the released sizes; with
//! `OPENAI_DVAE=FOLDER` in the environment the same tests use those, on an image of 256×256 pixels.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dalle_import::import_openai_dvae;
use dalle_model::Device;
use dalle_model::burn::tensor::{Int, Tensor, TensorData};
use dalle_model::dvae::pixels::{images_to_tensor, map_pixels};
use dalle_model::dvae::{Decoder, Encoder};
use safetensors::SafeTensors;

fn folder() -> PathBuf {
    let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/openai_dvae");
    std::env::var_os("OPENAI_DVAE").map_or(small, PathBuf::from)
}

fn read(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap()
}

fn imported(encoder: &str, decoder: &str) -> (Encoder, Decoder) {
    let (_, encoder, decoder) = import_openai_dvae(&read(encoder), &read(decoder), &Device::flex()).unwrap();
    (encoder, decoder)
}

/// What the package computes in double precision, rounded to f32, `[1, …]`.
fn expected(name: &str) -> Tensor<4> {
    let bytes = read("expected.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor(name).unwrap();
    let values: Vec<f32> =
        view.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    Tensor::from_data(TensorData::new(values, view.shape().to_vec()), &Device::flex())
}

/// max |a − b| / max |b|.
fn relative_error(a: Tensor<4>, b: Tensor<4>) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let greatest = |x: Tensor<4>| x.abs().max().into_scalar::<f32>();
    greatest(a - b.clone()) / greatest(b)
}

fn logits(encoder: &Encoder) -> Tensor<4> {
    let picture = image::open(folder().join("picture.png")).unwrap().to_rgb8();
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    encoder.forward(map_pixels(images_to_tensor(&[picture.as_raw()], width, height, &Device::flex())))
}

fn maps(decoder: &Decoder) -> Tensor<4> {
    let tokens: Tensor<3, Int> = expected("logits").argmax(1).squeeze_dim(1);
    decoder.forward_tokens(tokens)
}

#[test]
fn pickled_modules_compute_what_the_package_computes() {
    let (encoder, decoder) = imported("encoder.pkl", "decoder.pkl");
    let off = [("logits", logits(&encoder)), ("maps", maps(&decoder))]
        .map(|(name, ours)| (name, relative_error(ours, expected(name))));
    println!("relative errors: {off:?}");
    assert!(off.iter().all(|(_, error)| *error <= 1e-5), "{off:?}");
}

#[test]
fn state_dicts_and_safetensors_load_the_same_weights() {
    let (whole_encoder, whole_decoder) = imported("encoder.pkl", "decoder.pkl");
    let (encoder, decoder) = imported("encoder.pt", "decoder.safetensors");
    assert_eq!(relative_error(logits(&encoder), logits(&whole_encoder)), 0.0);
    assert_eq!(relative_error(maps(&decoder), maps(&whole_decoder)), 0.0);
}

/// A safetensors file of these tensors: name, shape, values.
fn safetensors_of(tensors: impl IntoIterator<Item = (String, Vec<usize>, Vec<f32>)>) -> Vec<u8> {
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, shape, values)| {
            (name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn both_parts_may_be_in_one_file_beside_a_prior_and_with_the_prefixes_of_training_programs() {
    let (whole_encoder, whole_decoder) = imported("encoder.pkl", "decoder.pkl");
    // As DALLE-pytorch names them, and as `DataParallel` and `torch.compile` then change all names.
    let named = |file: &str, prefix: &'static str| {
        let arrays = dalle_import::read_checkpoint(&read(file), &[]).unwrap();
        arrays
            .into_iter()
            .map(move |(name, array)| (format!("module._orig_mod.{prefix}{name}"), array.shape, array.values))
    };
    let prior = ("module._orig_mod.text_emb.weight".to_owned(), vec![2], vec![0.0; 2]);
    let both = named("encoder.pt", "vae.enc.").chain(named("decoder.safetensors", "vae.dec.")).chain([prior]);
    let both = safetensors_of(both);
    let (_, encoder, decoder) = import_openai_dvae(&both, &both, &Device::flex()).unwrap();
    assert_eq!(relative_error(logits(&encoder), logits(&whole_encoder)), 0.0);
    assert_eq!(relative_error(maps(&decoder), maps(&whole_decoder)), 0.0);
}

fn dalle(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dalle")).args(arguments).output().unwrap()
}

#[test]
fn tokens_and_pixels_of_the_commands_match_the_package() {
    let work = tempfile::tempdir().unwrap();
    let path = |name: &str| work.path().join(name).to_str().unwrap().to_owned();
    let given = |name: &str| folder().join(name).to_str().unwrap().to_owned();
    let (model, tokens, decoded) = (path("model"), path("tokens.json"), path("decoded.png"));
    let steps: [&[&str]; 3] = [
        &[
            "import",
            "openai-dvae",
            "--encoder",
            &given("encoder.pkl"),
            "--decoder",
            &given("decoder.pkl"),
            "--out",
            &model,
        ],
        &["dvae", "encode", &given("picture.png"), "--model", &model, "--out", &tokens],
        &["dvae", "decode", &tokens, "--model", &model, "--out", &decoded],
    ];
    for step in steps {
        let output = dalle(step);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    let json: serde_json::Value = serde_json::from_slice(&fs::read(&tokens).unwrap()).unwrap();
    let ours: Vec<i64> =
        json["tokens"].as_array().unwrap().iter().map(|token| token.as_i64().unwrap()).collect();
    let theirs: Vec<i64> = expected("logits").argmax(1).into_data().iter::<i64>().collect();
    assert_eq!(ours.len(), theirs.len());
    let wrong = ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
    assert!(wrong * 1000 <= ours.len(), "{wrong} of {} tokens differ", ours.len());

    let (ours, theirs) =
        (image::open(&decoded).unwrap().to_rgb8(), image::open(given("decoded.png")).unwrap().to_rgb8());
    let worst = ours.as_raw().iter().zip(theirs.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert_eq!(ours.dimensions(), theirs.dimensions());
    assert!(worst <= 2, "a pixel differs by {worst}");
}

#[test]
fn wrong_files_are_refused_with_a_message() {
    let work = tempfile::tempdir().unwrap();
    let out = work.path().join("model");
    let given = |name: &str| folder().join(name).to_str().unwrap().to_owned();
    let refusal = |encoder: &str, decoder: &str| {
        let output = dalle(&[
            "import",
            "openai-dvae",
            "--encoder",
            encoder,
            "--decoder",
            decoder,
            "--out",
            out.to_str().unwrap(),
        ]);
        assert!(!output.status.success());
        assert!(!out.exists(), "nothing is written");
        String::from_utf8(output.stderr).unwrap()
    };
    let swapped = refusal(&given("decoder.pkl"), &given("encoder.pkl"));
    assert!(swapped.contains("the two files are swapped") && swapped.contains("encoder.pkl"), "{swapped}");
    let twice = refusal(&given("encoder.pkl"), &given("encoder.pt"));
    assert!(twice.contains("the file given as decoder is an encoder"), "{twice}");
    let picture = refusal(&given("picture.png"), &given("decoder.pkl"));
    assert!(picture.contains("expected a PyTorch file"), "{picture}");
    let missing = refusal("missing.pkl", &given("decoder.pkl"));
    assert!(missing.contains("cannot read missing.pkl"), "{missing}");

    let whole = read("encoder.pkl");
    let cut = work.path().join("cut.pkl");
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let damaged = refusal(cut.to_str().unwrap(), &given("decoder.pkl"));
    assert_eq!(damaged.matches("damaged").count(), 1, "{damaged}");
    assert!(damaged.contains("cut.pkl") && damaged.contains("download or copy it again"), "{damaged}");
    let wrong = work.path().join("wrong.pkl");
    for (content, remedy) in [
        ("", "empty"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 53740662\n", "git lfs pull"),
        ("<!DOCTYPE html><html>Access denied</html>", "web page"),
    ] {
        fs::write(&wrong, content).unwrap();
        let said = refusal(wrong.to_str().unwrap(), &given("decoder.pkl"));
        assert!(said.contains("wrong.pkl") && said.contains(remedy), "{said}");
    }
    // DALLE-pytorch's own dVAE.
    let other = ["vae.codebook.weight", "vae.encoder.0.0.weight", "vae.decoder.0.weight"];
    fs::write(&wrong, safetensors_of(other.map(|name| (name.to_owned(), vec![1], vec![0.5])))).unwrap();
    let other = refusal(wrong.to_str().unwrap(), &given("decoder.pkl"));
    assert!(other.contains("DiscreteVAE of DALLE-pytorch") && other.contains("residual blocks"), "{other}");
}

//! Errors that prevent the server from starting.

use std::path::Path;
use std::process::Command;

use dalle_model::clip::{Clip, ClipConfig};
use dalle_native::device::DeviceName;
use dalle_shared::sha256_hex;
use serde_json::{Value, json};

use crate::fixture::{Model, Server, exit, safetensors};

/// Runs the server until it exits, which must be a failure, and returns its error message.
fn failure(model: &Path, extra: &[&str]) -> String {
    failure_of(Server::command(model).args(extra))
}

/// The same for any command.
fn failure_of(command: &mut Command) -> String {
    let mut process = command.spawn().unwrap();
    assert_eq!(exit(&mut process).code(), Some(1));
    let output = process.wait_with_output().unwrap();
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn says_what_is_wrong_with_a_model_folder() {
    let model = Model::new();
    let folder = model.folder.path();
    let nowhere = failure(&folder.join("nowhere"), &[]);
    assert!(nowhere.contains("nowhere/config.json"), "{nowhere}");

    let site = failure(folder, &["--site", "/nowhere"]);
    assert!(site.contains("/nowhere/index.html"), "{site}");
    if !cfg!(feature = "cuda") {
        let device = failure(folder, &["--device", "cuda:0"]);
        assert!(device.contains("--features cuda"), "{device}");
    }

    let weights = folder.join("decoder.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..whole.len() - 1]).unwrap();
    let torn = failure(folder, &[]);
    assert!(torn.contains("decoder.safetensors") && torn.contains("damaged"), "{torn}");
    std::fs::write(&weights, std::fs::read(folder.join("model.safetensors")).unwrap()).unwrap();
    let foreign = failure(folder, &[]);
    assert!(foreign.contains("decoder.safetensors") && foreign.contains("another model"), "{foreign}");
    std::fs::write(&weights, whole).unwrap();

    // The server does not run the encoder, but browsers download it.
    let encoder = folder.join("encoder.safetensors");
    let whole = std::fs::read(&encoder).unwrap();
    std::fs::write(&encoder, &whole[..100]).unwrap();
    let torn = failure(folder, &[]);
    assert!(torn.contains("encoder.safetensors") && torn.contains("damaged"), "{torn}");
    let mut infinite = whole.clone();
    let end = infinite.len();
    infinite[end - 4..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    std::fs::write(&encoder, infinite).unwrap();
    let infinite = failure(folder, &[]);
    assert!(
        infinite.contains("encoder.safetensors: tensor `") && infinite.contains("NaN or infinite"),
        "{infinite}"
    );
    std::fs::write(&encoder, whole).unwrap();

    std::fs::write(folder.join("config.json"), r#"{"name": "x"}"#).unwrap();
    let config = failure(folder, &[]);
    assert!(config.contains("config.json") && config.contains("text_length"), "{config}");
    std::fs::remove_file(folder.join("tokenizer.json")).unwrap();
    std::fs::write(folder.join("config.json"), include_bytes!("../../../configs/tiny.json")).unwrap();
    let missing = failure(folder, &[]);
    assert!(missing.contains("tokenizer.json"), "{missing}");
}

#[test]
fn says_what_is_wrong_with_clip() {
    let model = Model::new();
    let folder = model.folder.path();
    let (config, weights) = (folder.join("clip.json"), folder.join("clip.safetensors"));
    let tiny: ClipConfig = serde_json::from_slice(include_bytes!("../../../configs/tiny.clip.json")).unwrap();
    let clip = Clip::new(&tiny, &model.config, &DeviceName::Cpu.open().unwrap());
    std::fs::write(&weights, safetensors(&clip)).unwrap();
    let alone = failure(folder, &[]);
    assert!(alone.contains("clip.json is missing") && alone.contains("dalle clip train"), "{alone}");
    let tokenizer = sha256_hex(&std::fs::read(folder.join("tokenizer.json")).unwrap());
    let whole = serde_json::to_value(ClipConfig { tokenizer: Some(tokenizer), ..tiny }).unwrap();
    let said_of = |spoil: &dyn Fn(&mut Value)| {
        let mut json = whole.clone();
        spoil(&mut json);
        std::fs::write(&config, json.to_string()).unwrap();
        failure(folder, &[])
    };
    let other = said_of(&|json| json["tokenizer"] = "0".repeat(64).into());
    assert!(other.contains("another tokenizer.json") && other.contains("dalle clip train"), "{other}");
    let patch = said_of(&|json| json["patch"] = 7.into());
    assert!(patch.contains("clip.json: `patch` must divide"), "{patch}");
    let form = said_of(&|json| *json = json!({ "name": "x" }));
    assert!(form.contains("clip.json is not a CLIP configuration"), "{form}");
    let wide = said_of(&|json| json["embedding"] = 32.into());
    assert!(wide.contains("clip.safetensors: tensor `text.projection` has shape"), "{wide}");
    std::fs::remove_file(weights).unwrap();
    let alone = said_of(&|_| ());
    assert!(alone.contains("clip.safetensors is missing"), "{alone}");
}

#[test]
fn an_invalid_log_filter_is_refused() {
    let said = failure_of(Server::command(Path::new("nowhere")).env("DALLE_LOG", "[[["));
    assert!(said.contains("DALLE_LOG: expected") && said.contains("got `[[[`"), "{said}");
    let fine = failure_of(Server::command(Path::new("nowhere")).env("DALLE_LOG", ""));
    assert!(fine.contains("nowhere/config.json"), "{fine}");
}

#[tokio::test]
async fn empty_variables_are_unset_and_host_belongs_to_other_programs() {
    let model = Model::new();
    let mut command = Server::command(model.folder.path());
    for name in
        ["DALLE_SITE", "DALLE_HOST", "DALLE_PORT", "DALLE_DEVICE", "DALLE_QUEUE", "DALLE_ADMIN", "DALLE_LOG"]
    {
        command.env(name, "");
    }
    // As conda's compilers set it.
    command.env("HOST", "x86_64-conda-linux-gnu").env("PORT", "none");
    let server = Server::start_command(&mut command);
    assert!(server.url("").starts_with("http://127.0.0.1:"), "{}", server.url(""));
    server.until_ready().await;
}

#[test]
fn an_invalid_variable_is_named() {
    let said = |command: &mut Command| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let mut command = Server::command(Path::new("nowhere"));
    let variable = said(command.env("DALLE_QUEUE", "many"));
    assert!(variable.contains("--queue") && variable.contains("variable DALLE_QUEUE"), "{variable}");
    let option = said(command.args(["--queue", "few"]));
    assert!(option.contains("few") && !option.contains("DALLE_QUEUE"), "{option}");
}

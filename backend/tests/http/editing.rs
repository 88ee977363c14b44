//! Edits and variations of the Images API: forms with images.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dalle_shared::{ImageToken, read_metadata};
use image::{ImageFormat, Rgba, RgbaImage};
use serde_json::Value;

use crate::sampler::{Behaviour, GEOMETRY, pixels, token};
use crate::server::{TestServer, error, tokenizer};

/// Some tokens, and the PNG that they decode to.
fn original() -> (Vec<ImageToken>, Vec<u8>) {
    let tokens: Vec<ImageToken> = (0..64).map(|place| ImageToken(place * 60)).collect();
    let pixels = pixels(&tokens);
    let side = GEOMETRY.image_size as u32;
    let image = RgbaImage::from_fn(side, side, |x, y| {
        let at = 3 * (y * side + x) as usize;
        Rgba([pixels[at], pixels[at + 1], pixels[at + 2], 255])
    });
    (tokens, png(&image))
}

fn png(image: &RgbaImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A mask that is transparent where `edited` says so.
fn mask(edited: impl Fn(u32, u32) -> bool) -> Vec<u8> {
    png(&RgbaImage::from_fn(64, 64, |x, y| Rgba([0, 0, 0, if edited(x, y) { 0 } else { 255 }])))
}

/// Separates the parts of a form.
const BOUNDARY: &str = "----a-boundary";

/// The body of a form (RFC 7578).
fn form(files: &[(&str, Vec<u8>)], texts: &[(&str, &str)]) -> Vec<u8> {
    let head = |name: &str, more: &str| {
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n")
    };
    let files = files.iter().map(|(name, file)| {
        let head = head(name, "; filename=\"image.png\"\r\nContent-Type: image/png");
        [head.as_bytes(), file, b"\r\n"].concat()
    });
    let texts = texts.iter().map(|(name, text)| format!("{}{text}\r\n", head(name, "")).into_bytes());
    let end = format!("--{BOUNDARY}--\r\n").into_bytes();
    files.chain(texts).chain([end]).flatten().collect()
}

async fn send(server: &TestServer, path: &str, form: Vec<u8>) -> reqwest::Response {
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    server.client.post(server.url(path)).header("content-type", kind).body(form).send().await.unwrap()
}

/// The tokens of each image of a response.
async fn tokens_of(response: reqwest::Response) -> Vec<Vec<ImageToken>> {
    assert_eq!(response.status(), 200);
    let answer: Value = response.json().await.unwrap();
    let tokens = |image: &Value| {
        let png = STANDARD.decode(image["b64_json"].as_str().unwrap()).unwrap();
        read_metadata(&png).unwrap().unwrap().samples.swap_remove(0).tokens
    };
    answer["data"].as_array().unwrap().iter().map(tokens).collect()
}

#[tokio::test]
async fn an_edit_keeps_the_rows_above_the_mask_and_samples_the_rest() {
    let server = TestServer::start(Behaviour::default()).await;
    let (tokens, image) = original();
    let text = tokenizer().encode("a cat", 15).unwrap().ids;
    let files = [("image", image.clone()), ("mask", mask(|_, y| y >= 40))];
    let form = form(
        &files,
        &[("prompt", "a cat"), ("n", "2"), ("seed", "7"), ("model", "dall-e-2"), ("size", "256x256")],
    );
    let edited = tokens_of(send(&server, "/v1/images/edits", form).await).await;
    assert_eq!(edited.len(), 2);
    for (sample, edited) in edited.iter().enumerate() {
        let sampled: Vec<ImageToken> = (40..64).map(|place| token(&text, 7, sample, place)).collect();
        assert_eq!((&edited[..40], &edited[40..]), (&tokens[..40], &sampled[..]));
    }
    // The image's own transparency is a mask too, and Open WebUI names the image `image[]`.
    let mut transparent = image::load_from_memory(&image).unwrap().into_rgba8();
    transparent.enumerate_pixels_mut().filter(|(_, y, _)| *y >= 40).for_each(|(_, _, pixel)| pixel.0[3] = 0);
    let own = self::form(&[("image[]", png(&transparent))], &[("prompt", "a cat"), ("seed", "7")]);
    assert_eq!(tokens_of(send(&server, "/images/edits", own).await).await[0], edited[0]);
}

#[tokio::test]
async fn a_variation_keeps_the_upper_half_and_needs_no_prompt() {
    let server = TestServer::start(Behaviour::default()).await;
    let (tokens, image) = original();
    let form = form(&[("image", image)], &[("n", "1"), ("seed", "7"), ("response_format", "b64_json")]);
    let varied = tokens_of(send(&server, "/v1/images/variations", form).await).await.swap_remove(0);
    let sampled: Vec<ImageToken> = (32..64).map(|place| token(&[], 7, 0, place)).collect();
    assert_eq!((&varied[..32], &varied[32..]), (&tokens[..32], &sampled[..]));
}

#[tokio::test]
async fn what_the_model_cannot_edit_is_named() {
    let server = TestServer::start(Behaviour::default()).await;
    let (_, image) = original();
    let image = || ("image", image.clone());
    let middle = ("mask", mask(|x, y| (20..40).contains(&x) && (20..40).contains(&y)));
    let prompt = ("prompt", "a cat");
    for (form, field) in [
        (form(&[image(), middle], &[prompt]), "mask"),
        (form(&[image()], &[prompt]), "mask"),
        (form(&[image(), ("mask", b"<html>".to_vec())], &[prompt]), "mask"),
        (form(&[], &[prompt]), "image"),
        (form(&[("image", b"GIF89a".to_vec())], &[prompt]), "image"),
        (form(&[image(), image()], &[prompt]), "image"),
        (form(&[image()], &[]), "prompt"),
        (form(&[image()], &[prompt, ("n", "11")]), "n"),
        (form(&[image()], &[prompt, ("n", "many")]), "n"),
        (form(&[image()], &[prompt, ("colour", "red")]), "colour"),
    ] {
        let (_, message, named) = error(send(&server, "/v1/images/edits", form).await, 400).await;
        assert_eq!(named.as_deref(), Some(field), "{message}");
    }
    let json = server.post("/v1/images/edits", &serde_json::json!({"prompt": "a cat"})).send().await.unwrap();
    assert!(error(json, 415).await.1.contains("multipart/form-data"));
    let large = form(&[("image", vec![0; 9 << 20])], &[prompt]);
    assert!(error(send(&server, "/v1/images/edits", large).await, 413).await.1.contains("bytes"));
}

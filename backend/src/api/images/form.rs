//! The forms (multipart/form-data) of `/v1/images/edits` and `/v1/images/variations`.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::header::CONTENT_LENGTH;
use dalle_shared::{ErrorCode, sha256_hex};
use http_body_util::BodyExt;
use serde_json::{Map, Value};

use super::request::ImagesRequest;
use crate::api::json;
use crate::error_response::ErrorResponse;
use crate::idempotency::RepeatKey;

/// Maximum size of a form in bytes.
pub const MAX_FORM: usize = 8 << 20;
/// Size of the largest form that is read to its end although it is refused.
const MAX_DISCARDED: usize = 4 * MAX_FORM;
/// Maximum size of a field that is text.
const MAX_TEXT: usize = 64 << 10;
/// Time limit for receiving a form.
const FORM_TIMEOUT: Duration = Duration::from_secs(30);
/// Fields whose values are numbers.
const NUMBERS: [&str; 4] = ["n", "best_of", "partial_images", "output_compression"];

/// A form.
pub struct Form {
    /// The fields that `/v1/images/generations` has too. The prompt is empty if there is none.
    pub request: ImagesRequest,
    /// The image file.
    pub image: Bytes,
    /// The mask file.
    pub mask: Option<Bytes>,
    /// The request's `Idempotency-Key`.
    pub repeat: Option<RepeatKey>,
}

impl Form {
    /// Reads the form of a request.
    ///
    /// # Errors
    /// It is no form, is too large or too slow, or a field is wrong.
    pub async fn read(request: Request) -> Result<Self, ErrorResponse> {
        let (headers, path) = (request.headers().clone(), request.uri().path().to_owned());
        let length =
            headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if let Some(length) = length.filter(|length| *length > MAX_FORM) {
            if length <= MAX_DISCARDED {
                discard(request.into_body()).await;
            }
            return Err(too_large());
        }
        let form = Multipart::from_request(request, &()).await.map_err(|_| {
            let message = "expected a form with the image, `Content-Type: multipart/form-data`";
            ErrorResponse::new(ErrorCode::UnsupportedMediaType, message)
        })?;
        let fields = tokio::time::timeout(FORM_TIMEOUT, Fields::read(form)).await.map_err(|_| {
            let message = format!("the form did not arrive within {} s", FORM_TIMEOUT.as_secs());
            ErrorResponse::new(ErrorCode::InvalidRequest, message)
        })??;
        fields.form(|content| RepeatKey::of(&headers, &path, content))
    }
}

#[derive(Default)]
struct Fields {
    texts: Map<String, Value>,
    image: Option<Bytes>,
    mask: Option<Bytes>,
}

impl Fields {
    async fn read(mut form: Multipart) -> Result<Self, ErrorResponse> {
        let mut fields = Self::default();
        while let Some(field) = form.next_field().await.map_err(|error| refused(&error))? {
            let name = field.name().unwrap_or_default().to_owned();
            match name.as_str() {
                "image" | "image[]" => {
                    fields.add_image(field.bytes().await.map_err(|error| refused(&error))?)?;
                }
                "mask" => fields.mask = Some(field.bytes().await.map_err(|error| refused(&error))?),
                // It has no effect.
                "input_fidelity" => {}
                _ => fields.add_text(name, field).await?,
            }
        }
        Ok(fields)
    }

    fn add_image(&mut self, image: Bytes) -> Result<(), ErrorResponse> {
        match self.image.replace(image) {
            Some(_) => Err(ErrorResponse::invalid("image", "expected one image, got several")),
            None => Ok(()),
        }
    }

    async fn add_text(&mut self, name: String, field: Field<'_>) -> Result<(), ErrorResponse> {
        let bytes = field.bytes().await.map_err(|error| refused(&error))?;
        if bytes.len() > MAX_TEXT {
            return Err(ErrorResponse::invalid(name, format!("expected at most {MAX_TEXT} bytes of text")));
        }
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| ErrorResponse::invalid(name.clone(), "expected text in UTF-8"))?;
        let value = match text {
            "true" | "false" if name == "stream" => Value::Bool(text == "true"),
            _ if NUMBERS.contains(&name.as_str()) => text.parse().map_or_else(|_| text.into(), Value::Number),
            _ => text.into(),
        };
        self.texts.insert(name, value);
        Ok(())
    }

    fn form(
        mut self,
        repeat: impl FnOnce(&[u8]) -> Result<Option<RepeatKey>, ErrorResponse>,
    ) -> Result<Form, ErrorResponse> {
        let Some(image) = self.image.filter(|image| !image.is_empty()) else {
            return Err(ErrorResponse::invalid("image", "expected an image file, got none"));
        };
        self.texts.entry("prompt").or_insert_with(|| "".into());
        let texts = Value::Object(self.texts).to_string();
        // The boundaries between fields differ each time a form is sent, so its parts are compared.
        let files = [Some(&image), self.mask.as_ref()].map(|file| file.map(|file| sha256_hex(file)));
        let repeat = repeat(format!("{texts}{files:?}").as_bytes())?;
        Ok(Form { request: json::parse(texts.as_bytes())?, image, mask: self.mask, repeat })
    }
}

/// Reads a form that is too large, so that a client that is still sending can read the error.
async fn discard(mut body: Body) {
    let read = async { while let Some(Ok(_)) = body.frame().await {} };
    // A client that is slower than this does not get the error.
    let _ = tokio::time::timeout(FORM_TIMEOUT, read).await;
}

fn too_large() -> ErrorResponse {
    ErrorResponse::new(ErrorCode::TooLarge, format!("expected a form of at most {MAX_FORM} bytes, got more"))
}

fn refused(error: &MultipartError) -> ErrorResponse {
    match error.status().as_u16() {
        413 => too_large(),
        _ => ErrorResponse::new(
            ErrorCode::InvalidRequest,
            format!("the form is malformed: {}", error.body_text()),
        ),
    }
}

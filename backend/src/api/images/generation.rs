//! A generation whose images a client waits for.

use std::sync::Arc;

use axum::http::HeaderMap;
use dalle_shared::{ErrorCode, ImageMetadata, ImageToken, Seed};
use tokio::time::{Instant, timeout_at};

use super::request::{Prompt, Wanted, sample_request};
use super::response::{Image, ImagesResponse, Usage, base64, now, own_url, square};
use crate::admission::App;
use crate::api::reading::LogReader;
use crate::api::render::{metadata, render};
use crate::error_response::ErrorResponse;
use crate::idempotency::RepeatKey;
use crate::jobs::{Job, Viewer};
use crate::served::ServedModel;

/// Retry-After in seconds when images were not ready in time.
const RETRY_SLOW: u64 = 30;

/// A generation whose images this client waits for.
pub struct Generation {
    app: Arc<App>,
    model: Arc<ServedModel>,
    /// What was requested.
    pub wanted: Wanted,
    /// The prompt.
    pub prompt: Prompt,
    client: Client,
    reader: LogReader,
    /// Samples in the order in which they are shown, once it is known.
    order: Vec<usize>,
    deadline: Instant,
}

impl Generation {
    /// Puts the job into the queue, or joins the one that `repeat` has started.
    ///
    /// # Errors
    /// The queue is full, or the model cannot do it.
    pub fn start(
        app: &Arc<App>,
        model: Arc<ServedModel>,
        wanted: Wanted,
        prompt: Prompt,
        seed: Option<Seed>,
        prefix: Vec<ImageToken>,
        repeat: Option<&RepeatKey>,
    ) -> Result<Self, ErrorResponse> {
        if wanted.best_of.is_some() && !model.manifest.scores {
            return Err(ErrorResponse::cannot_score());
        }
        let seed = seed.unwrap_or_else(|| Seed(rand::random()));
        let job = app.once(repeat, || {
            let sampled = sample_request(&wanted, &prompt, seed, prefix);
            app.admit(sampled, wanted.best_of.is_some(), Some(prompt.caption.clone()))
        });
        let job = job.map_err(|mut response| {
            // The other API's name for `n`.
            response.error.field =
                response.error.field.map(|field| if field == "samples" { "n".into() } else { field });
            response
        })?;
        let viewer = job.view().ok_or_else(|| {
            ErrorResponse::new(ErrorCode::Busy, "this generation has too many viewers; try again later")
                .after(5)
        })?;
        Ok(Self {
            app: Arc::clone(app),
            model,
            wanted,
            prompt,
            client: Client { viewer, can_return: repeat.is_some() },
            reader: LogReader::new(&job),
            order: Vec::new(),
            deadline: Instant::now() + app.images_timeout,
        })
    }

    /// The response with all images.
    ///
    /// # Errors
    /// The generation fails, or takes too long.
    pub async fn images(&mut self, headers: &HeaderMap) -> Result<ImagesResponse, ErrorResponse> {
        self.finish().await?;
        let base = if self.wanted.as_url { own_url(headers) } else { None };
        let mut data = Vec::new();
        for index in 0..self.wanted.images {
            let mut image = match &base {
                Some(base) => Image { url: Some(self.url(base, index)), ..Image::default() },
                None => {
                    let base64 = base64(&self.image(index).await?.1);
                    match self.wanted.as_url {
                        true => {
                            Image { url: Some(format!("data:image/png;base64,{base64}")), ..Image::default() }
                        }
                        false => Image { b64_json: Some(base64), ..Image::default() },
                    }
                }
            };
            image.revised_prompt = self.prompt.ignored.as_ref().map(|(_, read)| read.clone());
            data.push(image);
        }
        let request = &self.job().request;
        Ok(ImagesResponse {
            created: now(),
            background: "opaque",
            output_format: "png",
            size: square(self.wanted.side),
            data,
            usage: Usage::new(&self.prompt, request.samples, self.length(), request.prefix.len()),
            seed: Seed(request.seed),
            prompt_tokens_ignored: self.prompt.ignored.as_ref().map(|(ignored, _)| *ignored),
            warning: self.prompt.warning(),
        })
    }

    /// The job.
    pub fn job(&self) -> &Arc<Job> {
        self.client.viewer.job()
    }

    /// Number of tokens of an image.
    pub fn length(&self) -> usize {
        self.model.manifest.geometry.image_length()
    }

    /// The usage of one image.
    pub fn usage_of_one(&self) -> Usage {
        Usage::new(&self.prompt, 1, self.length(), self.job().request.prefix.len())
    }

    /// Waits until the generation has finished.
    async fn finish(&mut self) -> Result<(), ErrorResponse> {
        match timeout_at(self.deadline, self.reader.until_finished()).await {
            Ok(read) => read?,
            Err(_) => return Err(self.too_slow()),
        }
        if self.order.is_empty() {
            self.order = self.reader.best();
        }
        Ok(())
    }

    /// The sample that is shown at `index`, and its PNG.
    ///
    /// # Errors
    /// As [`images`](Self::images).
    pub async fn image(&mut self, index: usize) -> Result<(usize, Vec<u8>), ErrorResponse> {
        self.finish().await?;
        let sample = self.order[index];
        let tokens = self.reader.take(sample);
        let metadata = metadata(&self.model, self.job(), sample, &tokens);
        Ok((sample, self.render(tokens, Some(metadata)).await?))
    }

    /// The PNG of a sample when it had `count` tokens.
    ///
    /// # Errors
    /// As [`images`](Self::images).
    pub async fn partial(&mut self, sample: usize, count: usize) -> Result<Vec<u8>, ErrorResponse> {
        match timeout_at(self.deadline, self.reader.until_tokens(count)).await {
            Ok(read) => read?,
            Err(_) => return Err(self.too_slow()),
        }
        self.render(self.reader.preview(sample, count, self.length()), None).await
    }

    async fn render(
        &self,
        tokens: Vec<ImageToken>,
        metadata: Option<ImageMetadata>,
    ) -> Result<Vec<u8>, ErrorResponse> {
        let sides = [self.model.manifest.geometry.image_size, self.wanted.side];
        match timeout_at(self.deadline, render(&self.app, tokens, sides, metadata)).await {
            Ok(png) => png,
            Err(_) => Err(self.too_slow()),
        }
    }

    /// The URL of the image that is shown at `index`.
    fn url(&self, base: &str, index: usize) -> String {
        let (id, sample, size) = (&self.job().id, self.order[index], square(self.wanted.side));
        format!("{base}/v1/generations/{id}/images/{sample}?size={size}")
    }

    /// Cancels the job because it takes too long. The response is 503.
    fn too_slow(&self) -> ErrorResponse {
        self.job().cancel();
        let message = format!(
            "the images were not ready within {} s; request fewer, or use POST /v1/generations, which streams",
            self.app.images_timeout.as_secs_f64()
        );
        ErrorResponse::new(ErrorCode::Unavailable, message).after(RETRY_SLOW)
    }
}

/// A waiting client. Without an `Idempotency-Key` it cannot come back, so its job is cancelled when it leaves.
struct Client {
    viewer: Viewer,
    can_return: bool,
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.can_return {
            self.viewer.job().cancel();
        }
    }
}

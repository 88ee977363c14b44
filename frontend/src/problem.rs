//! What can go wrong, in two sentences: what happened, and what to do.

use dalle_shared::{ApiError, ErrorCode, WorkerFailure};

/// A failure that a person must know about.
#[derive(Clone, Debug, PartialEq)]
pub enum Problem {
    /// The page's own runtime configuration cannot be read.
    Config(String),
    /// Nothing answers at the backend's address.
    NoServer,
    /// The server at the backend's address does not allow pages of this origin.
    Forbidden {
        /// The page's origin.
        origin: String,
    },
    /// The server answers, but is not yet or no longer able to work.
    Unavailable,
    /// The queue is full. The request is sent again.
    Busy {
        /// When (milliseconds since 1970).
        retry_at: f64,
    },
    /// The server serves another model than the one that the page knows.
    WrongModel,
    /// The server refused the request.
    Refused(ApiError),
    /// The server's answer cannot be read.
    Misunderstood(String),
    /// The connection broke and was not restored.
    LostConnection,
    /// The server no longer knows the generation.
    Gone,
    /// The engine failed.
    EngineFailed(String),
    /// The decoder in this browser failed.
    Decoder(WorkerFailure, String),
    /// The prior in this browser failed.
    Prior(WorkerFailure, String),
}

/// What the button beside the message does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Asks the server for its model again, or sends the request again.
    Connect,
    /// Follows the generation again, or sends the request again if the server has forgotten it.
    Resume,
    /// Sends the same request again.
    Again,
    /// Starts the decoder again.
    Decoder,
    /// Reloads the page.
    Reload,
    /// No button: the caption or a setting must change.
    Nothing,
}

impl Remedy {
    /// The button's text.
    pub fn label(self) -> Option<&'static str> {
        match self {
            Self::Connect | Self::Resume | Self::Decoder => Some("Try again"),
            Self::Again => Some("Generate again"),
            Self::Reload => Some("Reload the page"),
            Self::Nothing => None,
        }
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        match error.code {
            ErrorCode::WrongModel => Self::WrongModel,
            ErrorCode::NotFound => Self::Gone,
            ErrorCode::Unavailable => Self::Unavailable,
            ErrorCode::Internal => Self::EngineFailed(error.message),
            _ => Self::Refused(error),
        }
    }
}

impl Problem {
    /// What happened, and what can be done.
    pub fn sentences(&self, backend: &str) -> (String, String) {
        let at = if backend.starts_with("http") { backend } else { "this page's address" };
        let (what, remedy) = match self {
            Self::Config(how) => (
                format!("This page's config.json cannot be used: {how}."),
                "The page's operator should set it to {\"backend\": \"https://…\"} or {\"model\": \"model/\"}, or leave the address empty."
                    .to_owned(),
            ),
            Self::NoServer => (
                format!("No server answers at {at}."),
                "Check your connection, and that the server is running.".to_owned(),
            ),
            Self::Forbidden { origin } => (
                format!("The server at {at} does not allow this page to use it."),
                format!("Its operator can allow it with --allow-origin {origin}."),
            ),
            Self::Unavailable => {
                ("The server is starting or stopping.".to_owned(), "Try again in a few seconds.".to_owned())
            }
            Self::Busy { .. } => (
                "The server is busy: its queue is full.".to_owned(),
                "The request is sent again automatically; the seed is kept.".to_owned(),
            ),
            Self::WrongModel => (
                "The server has changed to another model since this page was loaded.".to_owned(),
                "Reload the page to use the new one. Your caption and seed are kept.".to_owned(),
            ),
            Self::Refused(error) => (
                format!("The server refused the request: {}", sentence(&error.message)),
                match &error.field {
                    Some(field) => format!("Change “{}” and generate again.", label(field)),
                    None => "Change the caption or the settings and generate again.".to_owned(),
                },
            ),
            Self::Misunderstood(how) => (
                format!("The server's answer could not be read: {}", sentence(how)),
                "The page and the server may have different versions. Reload the page.".to_owned(),
            ),
            Self::LostConnection => (
                "The connection to the server was lost and could not be restored.".to_owned(),
                "Check your connection, then try again: the generation continues, or starts again with the same seed."
                    .to_owned(),
            ),
            Self::Gone => (
                "The server no longer knows this generation; it was probably restarted.".to_owned(),
                "Generate again: the seed is kept, so the images are the same.".to_owned(),
            ),
            Self::EngineFailed(how) => (
                format!("The server failed: {}", sentence(how)),
                "Generate again. If that fails too, the server's log says why.".to_owned(),
            ),
            Self::Decoder(reason, message) => {
                (sentence(message), decoder_remedy(*reason).to_owned())
            }
            Self::Prior(reason, message) => (sentence(message), prior_remedy(*reason).to_owned()),
        };
        (what, remedy)
    }

    /// What the button does.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::NoServer | Self::Forbidden { .. } => Remedy::Connect,
            Self::Config(_) | Self::WrongModel | Self::Misunderstood(_) => Remedy::Reload,
            Self::Unavailable | Self::Busy { .. } | Self::Gone | Self::EngineFailed(_) => Remedy::Again,
            Self::LostConnection => Remedy::Resume,
            Self::Refused(_) => Remedy::Nothing,
            Self::Decoder(WorkerFailure::WrongFile, _) | Self::Prior(WorkerFailure::WrongFile, _) => {
                Remedy::Reload
            }
            Self::Prior(_, _) => Remedy::Again,
            Self::Decoder(_, _) => Remedy::Decoder,
        }
    }
}

/// Notice: an upload could not be encoded.
pub fn not_encoded(why: &str) -> String {
    format!(
        "{} Choose the image again, or another one: every browser reads PNG, JPEG and WebP.",
        sentence(why)
    )
}

/// Notice: WebGPU was chosen by the page, and failed.
pub fn gpu_replaced(why: &str) -> String {
    format!("Decoding on the CPU, because WebGPU failed: {why}.")
}

fn decoder_remedy(reason: WorkerFailure) -> &'static str {
    match reason {
        WorkerFailure::Download => "Check your connection and try again. The tokens are not lost.",
        WorkerFailure::WrongFile => {
            "Reload the page. If it happens again, the server's model folder is damaged."
        }
        WorkerFailure::Memory => {
            "The browser has no memory left for the decoder: close other tabs, then try again. The tokens are not lost."
        }
        WorkerFailure::Gpu => "Open this page with ?decoder=cpu in its address to decode on the CPU.",
        WorkerFailure::Fault => "Try again. The tokens are not lost.",
    }
}

fn prior_remedy(reason: WorkerFailure) -> &'static str {
    match reason {
        WorkerFailure::Download => "Check your connection and try again.",
        WorkerFailure::WrongFile => "Reload the page. If it happens again, the model's files are damaged.",
        WorkerFailure::Memory => {
            "The browser has no memory left for the prior: close other tabs, or ask for fewer images."
        }
        WorkerFailure::Gpu | WorkerFailure::Fault => "Generate again: the seed is kept.",
    }
}

/// The text with a capital at the start and one full stop at the end.
fn sentence(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    let mut chars = text.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", chars.as_str())
}

/// What the page calls a field of a request.
fn label(field: &str) -> &str {
    match field {
        "text" => "Caption",
        "samples" => "Images",
        "best_of" => "Best of",
        "seed" => "Seed",
        "temperature" => "Temperature",
        "top_k" => "Top-k",
        "top_p" => "Top-p",
        "prefix" => "Start from an image",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: ErrorCode) -> ApiError {
        ApiError { code, message: "the reason".into(), field: Some("top_k".into()) }
    }

    #[test]
    fn every_problem_is_two_sentences() {
        let problems = [
            Problem::Config("it is empty".into()),
            Problem::NoServer,
            Problem::Forbidden { origin: "https://b.example".into() },
            Problem::Unavailable,
            Problem::Busy { retry_at: 0.0 },
            Problem::WrongModel,
            Problem::Refused(error(ErrorCode::InvalidRequest)),
            Problem::Misunderstood("x".into()),
            Problem::LostConnection,
            Problem::Prior(WorkerFailure::Memory, "m".into()),
            Problem::Gone,
            Problem::EngineFailed("out of memory".into()),
            Problem::Decoder(WorkerFailure::Memory, "memory allocation failed".into()),
        ];
        for problem in problems {
            let (what, remedy) = problem.sentences("https://a.example");
            for text in [what, remedy] {
                assert!(text.starts_with(char::is_uppercase), "{text}");
                assert!(text.ends_with('.') && !text.ends_with(".."), "{text}");
            }
        }
    }

    #[test]
    fn errors_of_the_server_become_the_problem_with_their_remedy() {
        let remedy = |code| Problem::from(error(code)).remedy();
        assert_eq!(remedy(ErrorCode::WrongModel), Remedy::Reload);
        assert_eq!(remedy(ErrorCode::NotFound), Remedy::Again);
        assert_eq!(remedy(ErrorCode::InvalidRequest), Remedy::Nothing);
        assert_eq!(remedy(ErrorCode::Unavailable), Remedy::Again);
        let (what, remedy) = Problem::from(error(ErrorCode::InvalidRequest)).sentences("");
        assert!(what.contains("The reason.") && remedy.contains("“Top-k”"), "{what} {remedy}");
    }
}

//! The command line. Every option has an environment variable; an empty one counts as unset, because container tools pass such.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::HeaderValue;
use clap::builder::RangedU64ValueParser;
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, FromArgMatches, Parser};

use dalle_model::precision::Precision;
use dalle_native::device::DeviceName;

use crate::options::Options;

/// Serves a text-to-image model: image tokens as a stream of events, OpenAI's Images API, and the page.
#[derive(Clone, Debug, Parser)]
#[command(name = "dalle-server", version)]
pub struct Config {
    /// Model folder: config.json, tokenizer.json, model.safetensors, decoder.safetensors.
    #[arg(long, env = "DALLE_MODEL", value_name = "DIR")]
    pub model: PathBuf,
    /// Folder of the built page, served at `/`. Without it only the API is served.
    #[arg(long, env = "DALLE_SITE", value_name = "DIR")]
    pub site: Option<PathBuf>,
    /// Address to listen on; 0.0.0.0 for every interface.
    #[arg(long, env = "DALLE_HOST", default_value = "127.0.0.1")]
    pub host: String,
    /// Port to listen on; 0 for any free port.
    #[arg(long, env = "DALLE_PORT", default_value_t = 8080)]
    pub port: u16,
    /// Second address, for /health and /metrics, such as 127.0.0.1:9090. With it, /metrics is not served at the first.
    #[arg(long, env = "DALLE_ADMIN", value_name = "ADDRESS:PORT")]
    pub admin: Option<SocketAddr>,
    /// Device of the prior: cpu, cuda:N or wgpu.
    #[arg(long, env = "DALLE_DEVICE", default_value = "cpu")]
    pub device: DeviceName,
    /// Type of the prior's matrices and cache: f32, bf16 or f16. 16 bits halve the memory and shorten a step.
    #[arg(long, env = "DALLE_DTYPE", default_value = "f32")]
    pub dtype: Precision,
    /// Requests that may wait for the engine. Further ones get 429.
    #[arg(long, env = "DALLE_QUEUE", default_value_t = 16, value_name = "N", value_parser = at_least(1))]
    pub queue: usize,
    /// Samples of all requests that advance together, at least 9 (one full request); with guidance each counts twice.
    #[arg(long, env = "DALLE_MAX_ROWS", default_value_t = 32, value_name = "N", value_parser = rows())]
    pub max_rows: usize,
    /// Seconds after which a generation that no client watches is cancelled.
    #[arg(long, env = "DALLE_GRACE", default_value = "10", value_name = "SECONDS", value_parser = seconds)]
    pub grace: Duration,
    /// Time limit of the Images API in seconds. A request that takes longer is cancelled and gets 503.
    #[arg(long, env = "DALLE_IMAGES_TIMEOUT", default_value = "600", value_name = "SECONDS", value_parser = seconds)]
    pub images_timeout: Duration,
    /// Seconds that running generations have to finish when the server is stopped. A second signal stops it immediately.
    #[arg(long, env = "DALLE_DRAIN", default_value = "5", value_name = "SECONDS", value_parser = seconds)]
    pub drain: Duration,
    /// Seconds without progress (or 20 steps, if they take longer) after which a busy engine counts as stalled: its generations
    /// fail, and /health/live returns 503.
    #[arg(long, env = "DALLE_STALL_TIMEOUT", default_value = "60", value_name = "SECONDS", value_parser = seconds)]
    pub stall_timeout: Duration,
    /// Maximum number of connections.
    #[arg(long, env = "DALLE_MAX_CONNECTIONS", default_value_t = 1024, value_name = "N", value_parser = connections())]
    pub max_connections: usize,
    /// Maximum number of connections per IPv4 address or IPv6 /64 network [default: 256, and no limit for the local machine].
    /// Behind a proxy on another machine, set it to the value of --max-connections.
    #[arg(long, env = "DALLE_CONNECTIONS_PER_ADDRESS", value_name = "N", value_parser = connections())]
    pub connections_per_address: Option<usize>,
    /// Seconds after which a connection is closed if the client does not read the response.
    #[arg(long, env = "DALLE_WRITE_TIMEOUT", default_value = "30", value_name = "SECONDS", value_parser = seconds)]
    pub write_timeout: Duration,
    /// Origin of a page hosted elsewhere that may use this server, such as https://example.org (repeatable;
    /// comma-separated in the variable).
    #[arg(long = "allow-origin", env = "DALLE_ALLOW_ORIGIN", value_name = "URL", value_delimiter = ',', value_parser = origin)]
    pub allow_origin: Vec<Option<HeaderValue>>,
    /// Host name of this server, such as dalle.example.org, besides localhost and IP addresses; * for any name (repeatable;
    /// comma-separated in the variable). Without it, a server on a loopback address accepts no other names, and any other server
    /// accepts all names.
    #[arg(long = "allow-host", env = "DALLE_ALLOW_HOST", value_name = "NAME", value_delimiter = ',', value_parser = host_name)]
    pub allow_host: Vec<Option<String>>,
}

impl Config {
    /// Reads the arguments of the process and its environment. Exits if they are invalid, or with the help.
    pub fn read() -> Self {
        let mut command = Self::command().mut_args(|option| {
            let is_empty = |name| std::env::var_os(name).is_some_and(|value| value.is_empty());
            if option.get_env().is_some_and(is_empty) { option.env(None::<&'static str>) } else { option }
        });
        command.build();
        let matches = command.clone().try_get_matches();
        let config = matches.and_then(|matches| Self::from_arg_matches(&matches));
        config.unwrap_or_else(|error| {
            let source = variable(&command, &error);
            // If stderr is closed, there is no one to tell.
            let _ = error.print();
            if let Some(name) = source {
                eprintln!("The value is that of the environment variable {name}.");
            }
            std::process::exit(error.exit_code())
        })
    }
}

/// The environment variable that an invalid value was read from.
fn variable(command: &clap::Command, error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(invalid)) = error.get(ContextKind::InvalidArg) else { return None };
    let option = command.get_arguments().find(|option| option.to_string() == *invalid)?;
    let flag = format!("--{}", option.get_long()?);
    let given =
        std::env::args().any(|argument| argument == flag || argument.starts_with(&format!("{flag}=")));
    let name = option.get_env().filter(|_| !given)?;
    Some(name.to_string_lossy().into_owned())
}

impl From<Config> for Options {
    fn from(config: Config) -> Self {
        Self {
            site: config.site,
            queue: config.queue,
            max_rows: config.max_rows,
            grace: config.grace,
            images_timeout: config.images_timeout,
            drain: config.drain,
            stall_timeout: config.stall_timeout,
            max_connections: config.max_connections,
            connections_per_address: config.connections_per_address,
            write_timeout: config.write_timeout,
            origins: config.allow_origin.into_iter().flatten().collect(),
            hosts: config.allow_host.into_iter().flatten().collect(),
            ..Self::default()
        }
    }
}

/// Parses a time in seconds, at most a year.
fn seconds(text: &str) -> Result<Duration, String> {
    const YEAR: f64 = 365.0 * 86_400.0;
    match text.parse() {
        Ok(seconds) if (0.0..=YEAR).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("expected seconds, from 0 to {YEAR}, got `{text}`")),
    }
}

/// Enough rows for a full request, and no more than any device can hold.
fn rows() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(dalle_shared::MAX_SAMPLES as u64..=1 << 16)
}

/// At most as many connections as there can be open files.
fn connections() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=1 << 20)
}

fn at_least(least: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least..)
}

/// Parses an origin as browsers send it: scheme, host and optional port. None for an empty string, as from an empty variable.
fn origin(text: &str) -> Result<Option<HeaderValue>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let wrong =
        || format!("expected an origin such as https://example.org or http://localhost:3000, got `{text}`");
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or_else(wrong)?;
    if host.is_empty() || host.contains(['/', '?', '#', '@', '*', ' ']) {
        return Err(wrong());
    }
    HeaderValue::from_str(&text.to_ascii_lowercase()).map(Some).map_err(|_| wrong())
}

/// Parses a host name without port, or `*`. None for an empty string.
fn host_name(text: &str) -> Result<Option<String>, String> {
    let text = text.trim();
    let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    match text {
        "" => Ok(None),
        text if text == "*" || is_name => Ok(Some(text.to_ascii_lowercase())),
        _ => Err(format!(
            "expected a name such as dalle.example.org, without scheme and port, or *, got `{text}`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(extra: &[&str]) -> Result<Config, clap::Error> {
        Config::try_parse_from(["dalle-server", "--model", "m"].iter().chain(extra))
    }

    #[test]
    fn without_options_they_are_the_defaults() {
        assert_eq!(Options::from(parse(&[]).unwrap()), Options::default());
    }

    #[test]
    fn options_are_checked() {
        let config =
            parse(&["--grace", "0.5", "--allow-origin", "https://Example.org", "--device", "cuda:1"])
                .unwrap();
        assert_eq!(config.grace, Duration::from_millis(500));
        assert_eq!(config.allow_origin, [Some(HeaderValue::from_static("https://example.org"))]);
        assert_eq!(config.device, DeviceName::Cuda(1));
        for bad in [
            ["--max-rows", "8"],
            ["--queue", "0"],
            ["--grace", "-1"],
            ["--grace", "1e18"],
            ["--drain", "NaN"],
            ["--images-timeout", "soon"],
            ["--max-connections", "0"],
            ["--admin", "9090"],
            ["--allow-origin", "*"],
            ["--allow-origin", "https://example.org/"],
            ["--allow-host", "https://example.org"],
            ["--allow-host", "example.org:80"],
            ["--device", "tpu"],
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
        let several = parse(&["--allow-origin", "https://a.example, http://localhost:3000,"]).unwrap();
        let several: Vec<HeaderValue> = several.allow_origin.into_iter().flatten().collect();
        assert_eq!(several, ["https://a.example", "http://localhost:3000"]);
        assert_eq!(parse(&["--allow-origin", ""]).unwrap().allow_origin, [None]);
        let hosts = Options::from(parse(&["--allow-host", "Dalle.example.org,*,"]).unwrap()).hosts;
        assert_eq!(hosts, ["dalle.example.org", "*"]);
    }
}

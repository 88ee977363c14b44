//! Checks the Host header.
//!
//! Any page in a browser on this machine can reach a server on a loopback address if the page's own name resolves to that address
//! (DNS rebinding). The browser then sends the page's name as Host, so a server on a loopback address answers only to its own
//! names.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Version;
use axum::http::header::HOST;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error_response::ErrorResponse;

/// The allowed names: `localhost`, all IP addresses, and configured names.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// Configured names; None if every name is allowed.
    names: Option<Arc<[String]>>,
}

impl Hosts {
    /// The allowed names of a server that listens on `address`: `names`, or every name if they contain `*`. If there are none: every
    /// name, unless `address` is a loopback address.
    pub fn new(address: IpAddr, names: &[String]) -> Self {
        let any = names.iter().any(|name| name == "*") || (names.is_empty() && !address.is_loopback());
        Self { names: (!any).then(|| names.into()) }
    }

    /// Whether `host`, a name or IP address with an optional port, is allowed.
    fn allows(&self, host: &str) -> bool {
        let Some(names) = &self.names else { return true };
        if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            return address.parse::<IpAddr>().is_ok();
        }
        let name = without_port(host);
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        name.parse::<IpAddr>().is_ok()
            || is("localhost")
            || name.to_ascii_lowercase().ends_with(".localhost")
            || names.iter().any(|other| is(other))
    }
}

/// The name of `name[:port]`.
fn without_port(host: &str) -> &str {
    host.rsplit_once(':').map_or(host, |(name, _)| name).trim_end_matches('.')
}

/// Middleware that refuses requests for other names, and requests with no or several Host headers, which HTTP/1.1 forbids.
pub async fn check(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match host(&request) {
        Err(response) => response.into_response(),
        Ok(Some(host)) if !hosts.allows(host) => {
            let message = format!(
                "expected a host name of this server, got `{host}`; to allow this name, start the server with --allow-host {}",
                without_port(host)
            );
            ErrorResponse::invalid("Host", message).into_response()
        }
        Ok(_) => next.run(request).await,
    }
}

/// The host that a request names. HTTP/1.0 does not require one.
fn host(request: &Request) -> Result<Option<&str>, ErrorResponse> {
    let mut values = request.headers().get_all(HOST).iter();
    match (values.next(), values.next()) {
        (Some(_), Some(_)) => Err(ErrorResponse::invalid("Host", "expected one Host header, got several")),
        (Some(host), None) => {
            let unreadable =
                |_| ErrorResponse::invalid("Host", "expected an ASCII name as Host, got other bytes");
            host.to_str().map(Some).map_err(unreadable)
        }
        (None, _) if request.version() == Version::HTTP_11 => {
            Err(ErrorResponse::invalid("Host", "expected a Host header, got none"))
        }
        (None, _) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(address: &str, names: &[&str]) -> Hosts {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Hosts::new(address.parse().unwrap(), &names)
    }

    #[test]
    fn a_loopback_server_answers_only_to_its_own_names() {
        for address in ["127.0.0.1", "::1"] {
            let hosts = hosts(address, &[]);
            for own in
                ["localhost", "LOCALHOST:8080", "a.localhost:1", "127.0.0.1:8080", "[::1]:8080", "192.0.2.7"]
            {
                assert!(hosts.allows(own), "{own}");
            }
            for other in
                ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.nip.io", "", "[x]"]
            {
                assert!(!hosts.allows(other), "{other}");
            }
        }
    }

    #[test]
    fn configured_names_are_added_and_a_star_or_a_public_address_allows_all() {
        let named = hosts("127.0.0.1", &["dalle.example.org"]);
        assert!(named.allows("Dalle.example.org:443") && named.allows("dalle.example.org."));
        assert!(named.allows("localhost") && !named.allows("example.org"));
        assert!(hosts("127.0.0.1", &["*"]).allows("evil.example"));
        assert!(hosts("0.0.0.0", &[]).allows("evil.example"));
        assert!(!hosts("0.0.0.0", &["dalle.example.org"]).allows("evil.example"));
    }
}

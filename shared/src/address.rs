//! URLs on the backend.

/// The URL of `path`, which the backend states relative to its base URL `backend`. An empty `backend` is the page's own origin.
pub fn address(backend: &str, path: &str) -> String {
    format!("{}/{}", backend.trim_end_matches('/'), path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn joins_with_exactly_one_slash() {
        for (backend, path, joined) in [
            ("", "/v1/model", "/v1/model"),
            ("", "v1/model", "/v1/model"),
            ("https://a.example", "/v1/model", "https://a.example/v1/model"),
            ("https://a.example/dalle/", "v1/model", "https://a.example/dalle/v1/model"),
        ] {
            assert_eq!(address(backend, path), joined);
        }
    }
}

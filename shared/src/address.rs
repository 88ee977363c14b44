//! Addresses on the backend.

/// The address of `path` (which the backend states relative to its base) for a client that knows the backend as
/// `backend`; empty means the client's own origin.
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

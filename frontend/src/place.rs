//! Where images are sampled.

/// What the address of a generation's events begins with if this browser samples it.
const HERE: &str = "browser:";

/// Where the prior runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// On the server.
    #[default]
    Server,
    /// In this browser.
    Browser,
}

impl Place {
    /// Where the generation is sampled whose events are at this address.
    pub fn of_events(events: &str) -> Self {
        if events.starts_with(HERE) { Self::Browser } else { Self::Server }
    }

    /// The name by which a choice is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Browser => "browser",
        }
    }
}

/// The address of the events of a generation of this browser, or of images that it opened.
pub fn events_of(id: &str) -> String {
    format!("{HERE}{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_the_events_says_where_they_come_from() {
        assert_eq!(Place::of_events(&events_of("7")), Place::Browser);
        assert_eq!(Place::of_events("/v1/generations/7/events"), Place::Server);
    }
}

//! A generation as the fragment of the page's address: what a shared link restores.

use dalle_shared::{GenerationRequest, ImageToken, MAX_BEST_OF, MAX_SAMPLES, SamplingSettings};
use form_urlencoded::{Serializer, parse};

use crate::packing::{pack, unpack};

/// Everything that decides the pictures, and the model they were made with.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The caption as typed.
    pub caption: String,
    /// Number of pictures.
    pub samples: usize,
    /// How many to draw, for the best to be shown.
    pub best_of: Option<usize>,
    /// The seed.
    pub seed: u64,
    /// How tokens are drawn.
    pub settings: SamplingSettings,
    /// Hash of the model.
    pub model: String,
    /// Tokens that the pictures begin with; None where the link has some that are damaged.
    pub prefix: Option<Vec<ImageToken>>,
}

impl Link {
    /// The link to what a request asks for. Where the person prefers one picture to the best, it is to that one alone, which its
    /// own seed draws.
    pub fn to(caption: &str, request: &GenerationRequest, preferred: &[usize]) -> Self {
        let (best_of, seed) = match *preferred {
            [picture] if request.samples == 1 => (None, request.seed.of_sample(picture)),
            _ => (request.best_of, request.seed),
        };
        Self {
            caption: caption.to_owned(),
            samples: request.samples,
            best_of,
            seed: seed.0,
            settings: request.sampling(),
            model: request.model.clone(),
            prefix: Some(request.prefix.clone()),
        }
    }

    /// The fragment, without `#`. Settings at their default are left out.
    pub fn to_fragment(&self) -> String {
        let default = SamplingSettings::default();
        let mut out = Serializer::new(String::new());
        out.append_pair("caption", &self.caption)
            .append_pair("n", &self.samples.to_string())
            .append_pair("seed", &self.seed.to_string());
        if let Some(drawn) = self.best_of {
            out.append_pair("best_of", &drawn.to_string());
        }
        if self.settings.temperature != default.temperature {
            out.append_pair("temperature", &self.settings.temperature.to_string());
        }
        if let Some(k) = self.settings.top_k {
            out.append_pair("top_k", &k.to_string());
        }
        if let Some(p) = self.settings.top_p {
            out.append_pair("top_p", &p.to_string());
        }
        out.append_pair("model", &self.model);
        // Last, because it is long: where an address is cut, the rest is whole.
        if let Some(prefix) = self.prefix.as_ref().filter(|prefix| !prefix.is_empty()) {
            out.append_pair("start", &pack(prefix));
        }
        out.finish()
    }

    /// Reads a fragment, with or without `#`. None if it names no caption or no seed: then it is no link of ours. A value out
    /// of range becomes the default or the nearest bound, since whoever follows a link cannot mend it.
    pub fn from_fragment(fragment: &str) -> Option<Self> {
        let pairs = || parse(fragment.trim_start_matches('#').as_bytes());
        let find = |name: &str| pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let default = SamplingSettings::default();
        let temperature = find("temperature").and_then(|t| t.parse().ok()).filter(|t: &f32| t.is_finite());
        let samples = find("n").and_then(|n| n.parse().ok()).unwrap_or(1).clamp(1, MAX_SAMPLES);
        Some(Self {
            caption: find("caption")?,
            samples,
            best_of: find("best_of")
                .and_then(|n| n.parse().ok())
                .filter(|&drawn: &usize| drawn > samples)
                .map(|drawn| drawn.min(MAX_BEST_OF)),
            seed: find("seed")?.parse().ok()?,
            settings: SamplingSettings {
                temperature: temperature
                    .map_or(default.temperature, |t| t.clamp(0.0, SamplingSettings::MAX_TEMPERATURE)),
                top_k: find("top_k").and_then(|k| k.parse().ok()).filter(|&k| k > 0),
                top_p: find("top_p").and_then(|p| p.parse().ok()).filter(|&p: &f32| p > 0.0 && p <= 1.0),
                ..default
            },
            model: find("model").unwrap_or_default(),
            prefix: find("start").map_or(Some(Vec::new()), |text| unpack(&text)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link {
            caption: "a fox & a #hen: 100% süß 🦊".into(),
            samples: 4,
            best_of: Some(16),
            seed: u64::MAX,
            settings: SamplingSettings {
                temperature: 0.85,
                top_k: Some(128),
                top_p: Some(0.9),
                ..SamplingSettings::default()
            },
            model: "ab12".into(),
            prefix: Some([7, 0, 511].map(ImageToken).into()),
        }
    }

    #[test]
    fn comes_back_whole() {
        let fragment = link().to_fragment();
        assert!(!fragment.contains(['#', ' ', '🦊']), "{fragment}");
        assert_eq!(Link::from_fragment(&fragment), Some(link()));
        assert_eq!(Link::from_fragment(&format!("#{fragment}")), Some(link()));
        let plain =
            Link { best_of: None, settings: SamplingSettings::default(), prefix: Some(Vec::new()), ..link() };
        for default in ["best_of", "temperature", "start"] {
            assert!(!plain.to_fragment().contains(default), "{default}");
        }
        assert_eq!(Link::from_fragment(&plain.to_fragment()), Some(plain));
    }

    #[test]
    fn a_link_that_was_cut_says_that_its_beginning_is_damaged() {
        let fragment = link().to_fragment();
        let cut = Link::from_fragment(&fragment[..fragment.len() - 1]);
        assert_eq!(cut, Some(Link { prefix: None, ..link() }));
    }

    #[test]
    fn values_out_of_range_are_brought_into_it() {
        let link = Link::from_fragment("caption=x&seed=1&n=99&best_of=99&temperature=-3&top_k=0&top_p=7")
            .expect("caption and seed");
        assert_eq!((link.samples, link.best_of), (MAX_SAMPLES, Some(MAX_BEST_OF)));
        assert_eq!(link.settings, SamplingSettings { temperature: 0.0, ..SamplingSettings::default() });
        let link =
            Link::from_fragment("caption=x&seed=1&n=4&best_of=4&temperature=NaN").expect("caption and seed");
        assert_eq!(link.best_of, None, "four are shown anyway");
        assert_eq!(link.settings, SamplingSettings::default());
    }

    #[test]
    fn other_fragments_are_not_links() {
        for fragment in ["", "#", "#main", "caption=x", "seed=3", "caption=x&seed=-1"] {
            assert_eq!(Link::from_fragment(fragment), None, "{fragment}");
        }
    }
}

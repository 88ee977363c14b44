//! A generation as the fragment of the page's address, which a shared link restores.

use dalle_shared::{GenerationRequest, ImageToken, MAX_BEST_OF, MAX_SAMPLES, SamplingSettings};
use form_urlencoded::{Serializer, parse};

use crate::packing::{pack, unpack};

/// Maximum length of a caption in characters. Models read a few hundred tokens at most.
pub const MAX_CAPTION: usize = 2000;

/// Everything that determines the images, and the model that they were made with.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The caption as typed.
    pub caption: String,
    /// Number of images to show.
    pub samples: usize,
    /// Number of images to sample, for the best to be shown.
    pub best_of: Option<usize>,
    /// The seed.
    pub seed: u64,
    /// How tokens are sampled.
    pub settings: SamplingSettings,
    /// Hash of the model.
    pub model: String,
    /// Tokens that the images begin with; None where they are damaged in the link.
    pub prefix: Option<Vec<ImageToken>>,
}

impl Link {
    /// The link to what a request asks for. Where the person prefers a single image to the best, it leads to that image alone,
    /// which its own seed samples.
    pub fn to(caption: &str, request: &GenerationRequest, preferred: &[usize]) -> Self {
        let (best_of, seed) = match *preferred {
            [image] if request.samples == 1 => (None, request.seed.of_sample(image)),
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
        if let Some(sampled) = self.best_of {
            out.append_pair("best_of", &sampled.to_string());
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
        // Last, because it is long: where an address is cut, the rest stays whole.
        if let Some(prefix) = self.prefix.as_ref().filter(|prefix| !prefix.is_empty()) {
            out.append_pair("start", &pack(prefix));
        }
        out.finish()
    }

    /// Reads a fragment, with or without `#`. None if it has no caption or no seed. A value out of range becomes the default or the
    /// nearest bound: a person who follows a link cannot correct it.
    pub fn from_fragment(fragment: &str) -> Option<Self> {
        let pairs = || parse(fragment.trim_start_matches('#').as_bytes());
        let find = |name: &str| pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let default = SamplingSettings::default();
        let temperature = find("temperature").and_then(|t| t.parse().ok()).filter(|t: &f32| t.is_finite());
        let samples = find("n").and_then(|n| n.parse().ok()).unwrap_or(1).clamp(1, MAX_SAMPLES);
        Some(Self {
            caption: find("caption")?.chars().take(MAX_CAPTION).collect(),
            samples,
            best_of: find("best_of")
                .and_then(|n| n.parse().ok())
                .filter(|&sampled: &usize| sampled > samples)
                .map(|sampled| sampled.min(MAX_BEST_OF)),
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
    fn a_link_survives_its_fragment() {
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
    fn a_link_that_was_cut_has_a_damaged_prefix() {
        let fragment = link().to_fragment();
        let cut = Link::from_fragment(&fragment[..fragment.len() - 1]);
        assert_eq!(cut, Some(Link { prefix: None, ..link() }));
    }

    #[test]
    fn values_out_of_range_are_clamped() {
        let link = Link::from_fragment("caption=x&seed=1&n=99&best_of=99&temperature=-3&top_k=0&top_p=7")
            .expect("caption and seed");
        assert_eq!((link.samples, link.best_of), (MAX_SAMPLES, Some(MAX_BEST_OF)));
        assert_eq!(link.settings, SamplingSettings { temperature: 0.0, ..SamplingSettings::default() });
        let link =
            Link::from_fragment("caption=x&seed=1&n=4&best_of=4&temperature=NaN").expect("caption and seed");
        assert_eq!(link.best_of, None, "four are shown anyway");
        let long = format!("caption={}&seed=1", "ü".repeat(3 * MAX_CAPTION));
        assert_eq!(Link::from_fragment(&long).map(|link| link.caption), Some("ü".repeat(MAX_CAPTION)));
        assert_eq!(link.settings, SamplingSettings::default());
    }

    #[test]
    fn other_fragments_are_not_links() {
        for fragment in ["", "#", "#main", "caption=x", "seed=3", "caption=x&seed=-1"] {
            assert_eq!(Link::from_fragment(fragment), None, "{fragment}");
        }
    }
}

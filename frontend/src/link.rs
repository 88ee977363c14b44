//! Images as the fragment of the page's address, which a shared link restores.
//!
//! A link says what was asked for. A link to finished images has their tokens too, so that it opens as these
//! images, without a prior and without a server.

use dalle_shared::{ImageToken, MAX_BEST_OF, MAX_SAMPLES, SamplingSettings, Seed};
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
    /// The seed of the first image.
    pub seed: u64,
    /// The seed of each image, where they do not follow each other; else empty.
    pub seeds: Vec<u64>,
    /// How tokens are sampled.
    pub settings: SamplingSettings,
    /// Hash of the model.
    pub model: String,
    /// Tokens that the images begin with; None where they are damaged in the link.
    pub prefix: Option<Vec<ImageToken>>,
    /// All tokens of each image; empty if the images must be sampled, None where they are damaged in the link.
    pub tokens: Option<Vec<Vec<ImageToken>>>,
}

impl Link {
    /// The seed that samples the image with this index alone.
    pub fn seed_of(&self, image: usize) -> Seed {
        self.seeds.get(image).map_or_else(|| Seed(self.seed).of_sample(image), |seed| Seed(*seed))
    }

    /// The link to these finished images alone, each with its index among those sampled.
    pub fn to_images(&self, images: Vec<(usize, Vec<ImageToken>)>) -> Self {
        let seeds: Vec<u64> = images.iter().map(|(image, _)| self.seed_of(*image).0).collect();
        let first = seeds.first().copied().unwrap_or(self.seed);
        let consecutive =
            seeds.iter().enumerate().all(|(image, seed)| Seed(first).of_sample(image).0 == *seed);
        Self {
            samples: images.len(),
            best_of: None,
            seed: first,
            seeds: if consecutive { Vec::new() } else { seeds },
            tokens: Some(images.into_iter().map(|(_, tokens)| tokens).collect()),
            ..self.clone()
        }
    }

    /// Whether it has tokens of images.
    pub fn has_images(&self) -> bool {
        self.tokens.as_ref().is_some_and(|tokens| !tokens.is_empty())
    }

    /// What was asked for, without the tokens of its images.
    #[must_use]
    pub fn without_images(&self) -> Self {
        Self { tokens: Some(Vec::new()), ..self.clone() }
    }

    /// The fragment, without `#`. Settings at their default are left out.
    pub fn to_fragment(&self) -> String {
        let default = SamplingSettings::default();
        let mut out = Serializer::new(String::new());
        out.append_pair("caption", &self.caption)
            .append_pair("n", &self.samples.to_string())
            .append_pair("seed", &self.seed.to_string());
        if !self.seeds.is_empty() {
            let seeds: Vec<String> = self.seeds.iter().map(u64::to_string).collect();
            out.append_pair("seeds", &seeds.join("."));
        }
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
        if self.settings.guidance != default.guidance {
            out.append_pair("guidance", &self.settings.guidance.to_string());
        }
        out.append_pair("model", &self.model);
        let prefix = self.prefix.as_ref().filter(|prefix| !prefix.is_empty());
        // Last, because they are long: where an address is cut, the rest stays whole.
        match self.tokens.as_ref().filter(|_| self.has_images()) {
            Some(tokens) => {
                if let Some(prefix) = prefix {
                    out.append_pair("kept", &prefix.len().to_string());
                }
                out.append_pair("tokens", &pack(&tokens.concat()));
            }
            None => {
                if let Some(prefix) = prefix {
                    out.append_pair("start", &pack(prefix));
                }
            }
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
        let guidance = find("guidance").and_then(|g| g.parse().ok());
        let samples = find("n").and_then(|n| n.parse().ok()).unwrap_or(1).clamp(1, MAX_SAMPLES);
        let seeds: Vec<u64> = find("seeds")
            .map(|seeds| seeds.split('.').map_while(|seed| seed.parse().ok()).collect())
            .unwrap_or_default();
        let tokens = find("tokens").map_or(Some(Vec::new()), |text| images(&text, samples));
        let kept = find("kept").and_then(|kept| kept.parse().ok());
        let prefix = match (&tokens, kept) {
            (Some(images), Some(kept)) => {
                images.first().and_then(|first| first.get(..kept)).map(<[ImageToken]>::to_vec)
            }
            (None, Some(_)) => None,
            (_, None) => find("start").map_or(Some(Vec::new()), |text| unpack(&text)),
        };
        Some(Self {
            caption: find("caption")?.chars().take(MAX_CAPTION).collect(),
            samples,
            best_of: find("best_of")
                .and_then(|n| n.parse().ok())
                .filter(|&sampled: &usize| sampled > samples)
                .map(|sampled| sampled.min(MAX_BEST_OF)),
            seed: find("seed")?.parse().ok()?,
            seeds: if seeds.len() == samples { seeds } else { Vec::new() },
            settings: SamplingSettings {
                temperature: temperature
                    .map_or(default.temperature, |t| t.clamp(0.0, SamplingSettings::MAX_TEMPERATURE)),
                top_k: find("top_k").and_then(|k| k.parse().ok()).filter(|&k| k > 0),
                top_p: find("top_p").and_then(|p| p.parse().ok()).filter(|&p: &f32| p > 0.0 && p <= 1.0),
                guidance: guidance
                    .filter(|guidance| (0.0..=SamplingSettings::MAX_GUIDANCE).contains(guidance))
                    .unwrap_or(default.guidance),
            },
            model: find("model").unwrap_or_default(),
            prefix,
            tokens,
        })
    }
}

/// The tokens of so many images, from their text; None if it is damaged.
fn images(text: &str, samples: usize) -> Option<Vec<Vec<ImageToken>>> {
    let tokens = unpack(text).filter(|tokens| !tokens.is_empty() && tokens.len().is_multiple_of(samples))?;
    Some(tokens.chunks(tokens.len() / samples).map(<[ImageToken]>::to_vec).collect())
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
            seeds: Vec::new(),
            settings: SamplingSettings {
                temperature: 0.85,
                top_k: Some(128),
                top_p: Some(0.9),
                guidance: 2.5,
            },
            model: "ab12".into(),
            prefix: Some([7, 0, 511].map(ImageToken).into()),
            tokens: Some(Vec::new()),
        }
    }

    fn image(ids: [u16; 4]) -> Vec<ImageToken> {
        ids.map(ImageToken).into()
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
    fn a_link_to_images_carries_their_tokens_and_seeds_and_is_short() {
        let prefixed = Link { prefix: Some([7, 0].map(ImageToken).into()), seed: 40, ..link() };
        let (a, b) = (image([7, 0, 3, 1023]), image([7, 0, 9, 4]));
        let one = prefixed.to_images(vec![(2, a.clone())]);
        assert_eq!((one.samples, one.best_of, one.seed, &one.seeds[..]), (1, None, 42, &[][..]));
        let several = prefixed.to_images(vec![(5, a.clone()), (1, b.clone())]);
        assert_eq!((several.seed, &several.seeds[..]), (45, &[45, 41][..]));
        assert_eq!([several.seed_of(0), several.seed_of(1)], [45, 41].map(Seed));
        for link in [one, several, link().to_images(vec![(0, a), (1, b)])] {
            let link =
                Link { prefix: link.prefix.filter(|prefix| prefix.len() == 2).or(Some(Vec::new())), ..link };
            let fragment = link.to_fragment();
            assert_eq!(Link::from_fragment(&fragment), Some(link.clone()), "{fragment}");
            assert!(!fragment.contains("start"), "the prefix is the beginning of the tokens: {fragment}");
            assert!(!link.without_images().has_images());
        }
        let shipped = link().to_images(vec![(0, (0..256).map(|id| ImageToken(id * 4)).collect())]);
        let fragment = Link { prefix: Some(Vec::new()), ..shipped }.to_fragment();
        assert!(fragment.len() < 700, "{} characters", fragment.len());
    }

    #[test]
    fn a_link_whose_images_were_cut_says_so_and_keeps_the_rest() {
        let whole = Link { prefix: Some(Vec::new()), ..link() }.to_images(vec![(0, image([1, 2, 3, 4]))]);
        let fragment = whole.to_fragment();
        let cut = Link::from_fragment(&fragment[..fragment.len() - 1]);
        assert_eq!(cut, Some(Link { tokens: None, ..whole }));
        let uneven = fragment.replace("n=1", "n=3");
        assert_eq!(Link::from_fragment(&uneven).map(|link| link.tokens), Some(None), "4 tokens of 3 images");
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

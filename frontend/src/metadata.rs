//! Images of a link as the metadata of a PNG file, and back: a file that is dropped on the page is opened as its link would be.

use dalle_shared::{ImageMetadata, MAX_SAMPLES, ModelIdentity, SampleMetadata};

use crate::link::{Link, MAX_CAPTION};

impl Link {
    /// The metadata of a file with the link's images, from left to right and top to bottom. `name` is the model's.
    pub fn metadata(&self, name: &str) -> ImageMetadata {
        let samples = self.tokens.iter().flatten().enumerate();
        ImageMetadata {
            caption: self.caption.clone(),
            model: ModelIdentity { name: name.to_owned(), hash: self.model.clone() },
            sampling: self.settings,
            prefix: self.prefix.as_ref().map_or(0, Vec::len),
            samples: samples
                .map(|(image, tokens)| SampleMetadata { seed: self.seed_of(image), tokens: tokens.clone() })
                .collect(),
        }
    }

    /// The link to the images of a file. None if the file has none. The page shows nine at most.
    pub fn of_metadata(metadata: ImageMetadata) -> Option<Self> {
        let ImageMetadata { caption, model, sampling, prefix, mut samples } = metadata;
        samples.truncate(MAX_SAMPLES);
        let link = Self {
            caption: caption.chars().take(MAX_CAPTION).collect(),
            samples: samples.len(),
            best_of: None,
            seed: samples.first()?.seed.0,
            seeds: samples.iter().map(|sample| sample.seed.0).collect(),
            settings: sampling,
            model: model.hash,
            prefix: Some(samples.first()?.tokens.get(..prefix)?.to_vec()),
            tokens: None,
        };
        Some(link.to_images(samples.into_iter().map(|sample| sample.tokens).enumerate().collect()))
    }
}

#[cfg(test)]
mod tests {
    use dalle_shared::{ImageToken, Seed};

    use super::*;

    #[test]
    fn a_file_has_what_the_link_to_its_images_has() {
        let link =
            Link::from_fragment("caption=ein+%F0%9F%A6%8A&n=1&seed=7&temperature=0.8&top_k=9&model=ab")
                .expect("a link");
        let tokens = |id: u16| vec![ImageToken(id); 4];
        for shown in [vec![(0, tokens(3))], vec![(4, tokens(3)), (1, tokens(5))]] {
            let link = Link { prefix: Some(vec![ImageToken(3)]), ..link.to_images(shown) };
            let metadata = link.metadata("emoji");
            assert_eq!((metadata.model.name.as_str(), metadata.prefix), ("emoji", 1));
            assert_eq!(metadata.samples[0].seed, link.seed_of(0));
            assert_eq!(Link::of_metadata(metadata), Some(link));
        }
    }

    #[test]
    fn a_file_without_images_or_with_a_prefix_beyond_them_is_refused() {
        let metadata = |samples: Vec<SampleMetadata>, prefix| ImageMetadata {
            caption: "a fox".into(),
            model: ModelIdentity { name: "m".into(), hash: "h".into() },
            sampling: dalle_shared::SamplingSettings::default(),
            prefix,
            samples,
        };
        let sample = || SampleMetadata { seed: Seed(1), tokens: vec![ImageToken(1); 4] };
        assert_eq!(Link::of_metadata(metadata(Vec::new(), 0)), None);
        assert_eq!(Link::of_metadata(metadata(vec![sample()], 5)), None);
        let many = (0..12).map(|seed| SampleMetadata { seed: Seed(seed), ..sample() }).collect();
        assert_eq!(Link::of_metadata(metadata(many, 0)).map(|link| link.samples), Some(9));
    }
}

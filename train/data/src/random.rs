//! Random numbers of training, as a function of (seed, purpose, index).
//!
//! No generator's state is carried from one example to the next. A run can therefore resume anywhere, and the examples of an update
//! can be prepared in any order, on any number of threads and in batches of any size.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The use of random numbers. Each purpose has its own streams, so that, for example, the order of examples is independent of how
/// they are cropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Order of the shards, by epoch.
    Shards = 1,
    /// Crop, size and flip of an image, by example.
    Augmentation = 2,
    /// Choice of a caption, its BPE dropout and its caption dropout, by example.
    Caption = 3,
    /// Gumbel noise of the dVAE's relaxation, by example.
    Noise = 4,
    /// Crops of an image that are tokenized or reconstructed once, by crop and position in the dataset.
    Tokenization = 5,
    /// Order of the examples in a window, by window.
    Window = 6,
    /// Order of the datasets in a block, by block.
    Mixture = 7,
    /// Seed of one dataset of several, by dataset.
    Dataset = 8,
    /// The fixed matrices of PowerSGD, by shape.
    PowerSgd = 9,
}

/// The generator for `index`, which is an epoch, or the number of an example counted over all epochs.
pub fn stream(seed: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(index);
    rng
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::RngExt;

    use super::*;

    #[test]
    fn no_two_random_streams_begin_alike() {
        let purposes = [
            Purpose::Shards,
            Purpose::Augmentation,
            Purpose::Caption,
            Purpose::Noise,
            Purpose::Tokenization,
            Purpose::Window,
            Purpose::Mixture,
            Purpose::Dataset,
            Purpose::PowerSgd,
        ];
        let mut seen = HashSet::new();
        for purpose in purposes {
            for (seed, index) in (0..20).flat_map(|seed| (0..20).map(move |index| (seed, index))) {
                assert!(
                    seen.insert(stream(seed, purpose, index).random::<u64>()),
                    "{purpose:?} {seed} {index}"
                );
            }
        }
    }
}

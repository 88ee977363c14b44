//! The images of stage 1: streamed from shards, decoded and augmented (appendix A.2).

use anyhow::{Result, ensure};
use dalle_data::random::{Purpose, stream};
use dalle_data::{Item, Reader, Share, TrainingData};
use image::RgbImage;
use rayon::prelude::*;

use crate::augment;
use crate::prefetch::Batches;

/// An augmented image.
pub struct DvaeExample {
    /// Place of the example in the order of training: the index of its random numbers.
    pub number: u64,
    /// The image, of the model's size.
    pub image: RgbImage,
}

/// The augmented images of each update.
pub struct DvaeData {
    reader: Reader,
    image_size: u32,
    seed: u64,
}

impl DvaeData {
    /// The images of `data` for a model of `image_size` pixels.
    ///
    /// # Errors
    /// They are smaller than the model's.
    pub fn new(data: &TrainingData, share: Share, image_size: usize, seed: u64) -> Result<Self> {
        ensure!(
            data.image_size() as usize >= image_size,
            "the model learns images of {image_size}×{image_size} pixels, but those of the dataset are only {} wide; build it \
             with --size {image_size} or more",
            data.image_size()
        );
        Ok(Self { reader: data.reader(share), image_size: image_size as u32, seed })
    }
}

impl Batches for DvaeData {
    type Batch = Vec<DvaeExample>;

    fn batch(&mut self, step: u64) -> Result<Vec<DvaeExample>> {
        let augmented = self.reader.items(step)?.into_par_iter().map(|item| {
            let rng = &mut stream(self.seed, Purpose::Augmentation, item.number);
            let image = augment::for_dvae(&item.entry.image()?, self.image_size, rng);
            Ok(DvaeExample { number: item.number, image })
        });
        augmented.collect()
    }
}

/// Held-out images, centred, at the model's size.
///
/// # Errors
/// One cannot be decoded.
pub fn held_out(items: &[Item], image_size: usize) -> Result<Vec<RgbImage>> {
    let centred = items.par_iter().map(|item| Ok(augment::centred(&item.entry.image()?, image_size as u32)));
    centred.collect()
}

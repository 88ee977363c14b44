//! The image tower of a model folder's CLIP, which the paper uses to find overlap (section 3.2).

use anyhow::{Result, anyhow};
use dalle_model::burn::tensor::Device;
use dalle_model::clip::Clip;
use image::RgbImage;

use dalle_native::ModelFolder;

use super::extractor::{Extracted, Extractor, Names, to_tensor};

/// CLIP's image features.
pub struct ClipFeatures {
    clip: Clip,
    side: u32,
    device: Device,
}

impl ClipFeatures {
    /// Loads CLIP from a model folder.
    ///
    /// # Errors
    /// The folder has no CLIP, or it is damaged.
    pub fn open(folder: &ModelFolder, device: &Device) -> Result<Self> {
        let side = folder.config.image_size as u32;
        Ok(Self { clip: folder.clip(device)?, side, device: device.clone() })
    }
}

impl Extractor for ClipFeatures {
    fn names(&self) -> Names {
        Names { network: "the model's own CLIP", distance: "FD-CLIP", score: "IS-CLIP" }
    }

    fn extract(&self, images: &[RgbImage]) -> Result<Extracted> {
        let features = self.clip.images(to_tensor(images, self.side, &self.device));
        let [_, length] = features.dims();
        let values: Vec<f32> =
            features.try_into_vec_as().map_err(|error| anyhow!("the device failed: {error}"))?;
        let features = values.chunks(length).map(<[f32]>::to_vec).collect();
        Ok(Extracted { features, ..Extracted::default() })
    }
}

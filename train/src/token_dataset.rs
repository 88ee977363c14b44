//! Token datasets from datasets of images: the dVAE's tokens of several random crops of each image (appendix B.2), so that
//! the prior trains without pixels.
//!
//! Training reads another crop in each epoch, from the first again after the last. An image that is no larger than the
//! model's has only one crop.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Context, Result, ensure};
use dalle_data::random::{Purpose, stream};
use dalle_data::{DataError, Entry, MANIFEST, Manifest, Record, ShardWriter, Shards, Split, TokenFormat};
use dalle_model::config::ModelConfig;
use dalle_model::dvae::ImageEncoder;
use dalle_native::publish::NewFolder;
use dalle_shared::files::VOCABULARY;
use dalle_shared::{ImageToken, sha256_hex};
use image::RgbImage;
use rayon::prelude::*;

use crate::augment;
use crate::tokens::encode_images;

/// Images on the device at the same time.
pub const ENCODED_TOGETHER: usize = 16;
/// Groups of cropped images that wait for the device.
const AHEAD: usize = 2;

/// Crops of each image, unless another number is asked for: as many epochs have crops of their own.
pub const CROPS: u64 = 8;

/// How the tokens of a dataset of images are made. `crops` is reduced to one where all crops of an image are the same.
pub fn format(
    shards: &Shards,
    config: &ModelConfig,
    encoder: String,
    crops: usize,
    seed: u64,
) -> TokenFormat {
    let one = shards.manifest().image_size as usize <= config.image_size;
    TokenFormat {
        encoder,
        vocab: config.dvae.vocab,
        grid: config.geometry().grid,
        crops: if one { 1 } else { crops.max(1) },
        seed,
        data: shards.hash(),
    }
}

/// Writes the token dataset `out` of a dataset of images and returns its manifest. `progress` is called after each image.
///
/// # Errors
/// The dataset cannot be read, `out` exists or cannot be written, or the device fails.
pub fn write(
    shards: &Shards,
    format: &TokenFormat,
    config: &ModelConfig,
    encoder: &ImageEncoder,
    out: NewFolder,
    mut progress: impl FnMut(),
) -> Result<Manifest> {
    let options = &shards.manifest().options;
    let image_size = config.image_size as u32;
    let mut writer = ShardWriter::new(out.path(), options.shard_size.max(1));
    let (sender, receiver) = sync_channel(AHEAD);
    std::thread::scope(|scope| -> Result<()> {
        // It owns the sender, so that the receiver ends with it.
        scope.spawn(move || crop_all(shards, format, image_size, &sender));
        // Without a receiver the other thread ends, also after an error here.
        store_all(receiver, format, encoder, &mut writer, &mut progress)
    })?;
    let manifest = Manifest {
        image_size,
        tokens: Some(format.clone()),
        shards: writer.finish()?,
        ..shards.manifest().clone()
    };
    for name in ["ATTRIBUTION.md", VOCABULARY] {
        if let Ok(content) = std::fs::read(shards.folder().join(name)) {
            out.write(name, &content)?;
        }
    }
    out.write(MANIFEST, &serde_json::to_vec_pretty(&manifest)?)?;
    out.publish()?;
    Ok(manifest)
}

/// An image with its crops.
struct Cropped {
    key: String,
    record: Record,
    crops: Vec<RgbImage>,
}

/// Reads all images in order and crops them, in groups.
fn crop_all(
    shards: &Shards,
    format: &TokenFormat,
    image_size: u32,
    sender: &SyncSender<Result<Vec<Cropped>, DataError>>,
) {
    let group = (ENCODED_TOGETHER / format.crops).max(1);
    let mut entries = (0..).zip(shards.entries(None));
    loop {
        let group: Vec<(u64, Result<Entry, DataError>)> = entries.by_ref().take(group).collect();
        if group.is_empty() {
            return;
        }
        let cropped = group.into_par_iter().map(|(index, entry)| crop(index, &entry?, format, image_size));
        let cropped: Result<Vec<Cropped>, DataError> = cropped.collect();
        let failed = cropped.is_err();
        if sender.send(cropped).is_err() || failed {
            return;
        }
    }
}

/// The crops of the image at `index` in the dataset. The first crop of a held-out image is the one in the middle, on which
/// models are validated.
fn crop(index: u64, entry: &Entry, format: &TokenFormat, image_size: u32) -> Result<Cropped, DataError> {
    let (record, image) = (entry.record()?, entry.image()?);
    let crops = (0..format.crops as u64).map(|crop| {
        if crop == 0 && record.split == Split::Val {
            return augment::centred(&image, image_size);
        }
        let rng = &mut stream(format.seed, Purpose::Tokenization, index * format.crops as u64 + crop);
        augment::for_prior(&image, image_size, rng)
    });
    let crops = crops.collect();
    Ok(Cropped { key: entry.key().to_owned(), record, crops })
}

fn store_all(
    groups: Receiver<Result<Vec<Cropped>, DataError>>,
    format: &TokenFormat,
    encoder: &ImageEncoder,
    writer: &mut ShardWriter,
    progress: &mut impl FnMut(),
) -> Result<()> {
    for group in groups {
        let group = group?;
        let images: Vec<&RgbImage> = group.iter().flat_map(|image| &image.crops).collect();
        let mut tokens: Vec<Vec<ImageToken>> = Vec::with_capacity(images.len());
        for images in images.chunks(ENCODED_TOGETHER) {
            tokens.extend(encode_images(encoder, images)?);
        }
        for (image, tokens) in group.iter().zip(tokens.chunks(format.crops)) {
            let tokens = TokenFormat::encode(tokens.iter().map(Vec::as_slice));
            let json = serde_json::to_vec(&image.record)?;
            let text = image.record.captions.main();
            let files = [("tokens", tokens.as_slice()), ("json", &json), ("txt", text.as_bytes())];
            writer.append(&image.key, image.record.split, &files)?;
            progress();
        }
    }
    Ok(())
}

/// The token dataset of a dataset of images in a run folder, encoded at the first start of the run and found at the later ones.
///
/// # Errors
/// See [`write`].
pub fn in_run_folder(
    run: &Path,
    shards: &Shards,
    format: &TokenFormat,
    config: &ModelConfig,
    encoder: impl FnOnce() -> Result<ImageEncoder>,
    progress: impl FnMut(),
) -> Result<Shards> {
    let identity = sha256_hex(&serde_json::to_vec(format)?);
    let folder = run.join(format!("tokens-{}", &identity[..16]));
    if !folder.join(MANIFEST).is_file() {
        let new = NewFolder::begin(&folder, MANIFEST, false)?;
        write(shards, format, config, &encoder()?, new, progress)
            .with_context(|| format!("encoding the images of {}", shards.folder().display()))?;
    }
    let tokens = Shards::open(&folder)?;
    check(&tokens, format)?;
    Ok(tokens)
}

/// Checks that a token dataset is of the model that reads it.
///
/// # Errors
/// It holds images, or the tokens of another encoder.
pub fn check(shards: &Shards, expected: &TokenFormat) -> Result<()> {
    let folder = shards.folder().display();
    let Some(format) = &shards.manifest().tokens else {
        return Err(DataError::ImagesNotTokens(shards.folder().to_owned()).into());
    };
    ensure!(
        format.encoder == expected.encoder,
        "{folder} holds tokens of another encoder ({} …, this model's is {} …), whose codebook differs; encode the dataset again \
         with `dalle dvae encode --data`, or name the --model that encoded it",
        &format.encoder.get(..12).unwrap_or_default(),
        &expected.encoder.get(..12).unwrap_or_default(),
    );
    ensure!(
        (format.vocab, format.grid) == (expected.vocab, expected.grid),
        "{folder} holds grids of {0}×{0} tokens of {1}, the model reads {2}×{2} of {3}: the configuration was changed",
        format.grid,
        format.vocab,
        expected.grid,
        expected.vocab
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use dalle_model::Device;
    use dalle_model::dvae::Encoder;
    use image::Rgb;

    use super::*;
    use crate::test_dataset::TestDataset;

    #[test]
    fn the_tokens_are_those_that_the_encoder_gives_each_crop() {
        let _random = crate::DEVICE_RANDOM.lock();
        let config: ModelConfig = serde_json::from_str(include_str!("../../configs/tiny.json")).unwrap();
        let device = Device::flex();
        device.seed(5);
        let encoder = ImageEncoder::new(Encoder::new(&config.dvae, &device));
        // More than the encoder takes together, in several shards, larger than the model's; the last ones are held out.
        let images = (0..9).map(|number| {
            let image = RgbImage::from_fn(48, 48, |x, y| {
                Rgb([x * 5, y * 5, (x * y * (number + 1)) % 256].map(|value| value as u8))
            });
            (format!("number {number}"), image)
        });
        let dataset =
            TestDataset::with_split(images, |number| if number < 6 { Split::Train } else { Split::Val });
        let folder = tempfile::tempdir().unwrap();
        let format = format(dataset.shards(), &config, "hash".to_owned(), 3, 11);
        assert_eq!(format.crops, 3);
        let out = NewFolder::begin(&folder.path().join("tokens"), MANIFEST, false).unwrap();
        let mut done = 0;
        write(dataset.shards(), &format, &config, &encoder, out, || done += 1).unwrap();
        let tokens = Shards::open(&folder.path().join("tokens")).unwrap();
        check(&tokens, &format).unwrap();
        assert_eq!((tokens.manifest().train, tokens.manifest().val, done), (6, 3, 9));

        let pairs = dataset.shards().entries(None).zip(tokens.entries(None));
        for (index, (image, tokens)) in (0..).zip(pairs) {
            let (image, tokens) = (image.unwrap(), tokens.unwrap());
            assert_eq!(image.record().unwrap(), tokens.record().unwrap());
            let pixels = image.image().unwrap();
            for crop in 0..3 {
                let rng = &mut stream(11, Purpose::Tokenization, index * 3 + crop);
                let cropped = match (image.split(), crop) {
                    (Split::Val, 0) => augment::centred(&pixels, 32),
                    _ => augment::for_prior(&pixels, 32, rng),
                };
                let expected = encode_images(&encoder, &[cropped]).unwrap().remove(0);
                assert_eq!(tokens.tokens(crop).unwrap(), expected, "crop {crop} of image {index}");
            }
        }
    }
}

//! A dataset's training images as the dVAE reconstructs them, in a run folder: CLIP sees samples of the prior, which have
//! passed through its decoder.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use dalle_data::random::{Purpose, stream};
use dalle_data::{Entry, MANIFEST, Manifest, ShardWriter, Shards, Split, encode_png};
use dalle_model::config::ModelConfig;
use dalle_model::dvae::{ImageDecoder, ImageEncoder};
use dalle_native::publish::NewFolder;
use dalle_shared::sha256_hex;
use image::RgbImage;
use rayon::prelude::*;

use crate::augment;
use crate::token_dataset::ENCODED_TOGETHER;
use crate::tokens::{decode_images, encode_images};

/// The reconstructions of a dataset of images, made at the first start of the run and found at the later ones. Each is of one
/// random crop. `dvae` is the hash of encoder and decoder; `progress` is called after each image.
///
/// # Errors
/// The dataset cannot be read, the run folder cannot be written, or the device fails.
pub fn in_run_folder(
    run: &Path,
    shards: &Shards,
    (encoder, decoder): &(ImageEncoder, ImageDecoder),
    dvae: &str,
    config: &ModelConfig,
    seed: u64,
    progress: impl FnMut(),
) -> Result<Shards> {
    let identity = sha256_hex(format!("{} {dvae} {} {seed}", shards.hash(), config.image_size).as_bytes());
    let folder = run.join(format!("reconstructed-{}", &identity[..16]));
    if !folder.join(MANIFEST).is_file() {
        let out = NewFolder::begin(&folder, MANIFEST, false)?;
        write(shards, encoder, decoder, config, seed, &out, progress)
            .with_context(|| format!("reconstructing the images of {}", shards.folder().display()))?;
        out.publish()?;
    }
    Ok(Shards::open(&folder)?)
}

fn write(
    shards: &Shards,
    encoder: &ImageEncoder,
    decoder: &ImageDecoder,
    config: &ModelConfig,
    seed: u64,
    out: &NewFolder,
    mut progress: impl FnMut(),
) -> Result<()> {
    let (size, grid) = (config.image_size as u32, config.geometry().grid);
    let mut writer = ShardWriter::new(out.path(), shards.manifest().options.shard_size.max(1));
    let mut entries = (0..).zip(shards.entries(Some(Split::Train)));
    let mut records = 0;
    loop {
        let group: Vec<(u64, Entry)> = entries
            .by_ref()
            .take(ENCODED_TOGETHER)
            .map(|(index, entry)| Ok((index, entry?)))
            .collect::<Result<_>>()?;
        if group.is_empty() {
            break;
        }
        let cropped = group.par_iter().map(|(index, entry)| {
            let rng = &mut stream(seed, Purpose::Tokenization, *index);
            Ok(augment::for_prior(&entry.image()?, size, rng))
        });
        let tokens = encode_images(encoder, &cropped.collect::<Result<Vec<RgbImage>>>()?)?;
        let images = decode_images(decoder, &tokens, grid)?;
        let files = group
            .par_iter()
            .zip(images)
            .map(|((_, entry), image)| Ok((encode_png(&image)?, serde_json::to_vec(&entry.record()?)?)));
        for ((_, entry), (png, json)) in group.iter().zip(files.collect::<Result<Vec<_>>>()?) {
            writer.append(entry.key(), Split::Train, &[("png", &png), ("json", &json)])?;
            records += 1;
            progress();
        }
    }
    let manifest = Manifest {
        image_size: size,
        records,
        train: records,
        val: 0,
        splits: BTreeMap::new(),
        shards: writer.finish()?,
        ..shards.manifest().clone()
    };
    out.write(MANIFEST, &serde_json::to_vec_pretty(&manifest)?)?;
    Ok(())
}

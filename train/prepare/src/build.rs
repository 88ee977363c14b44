//! `dalle data build`: sources of captioned images in, a dataset folder out.
//!
//! The same input and options give the same bytes, however many threads render. What is known of the images is held in
//! memory, about a kilobyte each, to put them in random order; their pixels are not.

use std::path::Path;

use dalle_data::{DataError, MANIFEST, Manifest, Options, Record, Split, check_apart, encode_png};
use dalle_native::publish::NewFolder;
use dalle_shared::sha256_hex;
use indicatif::ProgressBar;

use crate::background::{self, PALETTE, WHITE};
use crate::keys::unique_keys;
use crate::render::{Cutout, RenderError};
use crate::source::{RawExample, Source};
use crate::store::{Entry, Rendered, Tally, store_all};

/// Sides of images that make sense.
const SIZES: std::ops::RangeInclusive<u32> = 8..=1024;

/// Builds the dataset folder `out` and returns its manifest.
///
/// # Errors
/// An option is out of range, a source cannot be read, nothing is left to store, or a file cannot be written. `out` is then as it was.
pub fn build(
    sources: &[Box<dyn Source>],
    options: &Options,
    out: &Path,
    overwrite: bool,
    progress: &ProgressBar,
) -> Result<Manifest, DataError> {
    check(options)?;
    let inputs = sources.iter().flat_map(|source| source.inputs());
    check_apart(("out", out), inputs.map(|input| (input.option, input.path, input.everything)))?;
    let folder = NewFolder::begin(out, MANIFEST, overwrite)?;
    let mut tally = Tally::new(sources);
    let images = in_order(sources, &mut tally, options.seed)?;
    let licenses: Vec<String> = tally.sources.iter().map(|source| source.info.license.clone()).collect();
    let render = |image: &Keyed| {
        let rendered = render(image, &licenses, options);
        Rendered {
            source: image.source,
            origin: Some(image.example.origin.clone()),
            enlarged: rendered.as_ref().is_ok_and(|(_, enlarged)| *enlarged),
            entries: rendered.map(|(entries, _)| entries),
        }
    };
    store_all(folder, (options, None), tally, &images, render, progress)
}

pub(crate) fn check(options: &Options) -> Result<(), DataError> {
    let refuse = |option, message| Err(DataError::Option { option, message });
    if !SIZES.contains(&options.size) {
        return refuse(
            "size",
            format!("expected {} to {} pixels, got {}", SIZES.start(), SIZES.end(), options.size),
        );
    }
    if options.shard_size == 0 {
        return refuse("shard-size", "expected at least one image in a shard, got 0".to_owned());
    }
    if options.backgrounds > PALETTE.len() {
        return refuse(
            "backgrounds",
            format!("expected at most {} colours, got {}", PALETTE.len(), options.backgrounds),
        );
    }
    if !(0.0..1.0).contains(&options.val_share) {
        return refuse("val", format!("expected a share from 0 to below 1, got {}", options.val_share));
    }
    Ok(())
}

/// An image with the index of its source and its key in the shards.
pub(crate) struct Keyed {
    pub source: usize,
    pub key: String,
    pub example: RawExample,
}

/// The images of all sources in an order that mixes them and depends on the seed and the keys alone.
pub(crate) fn in_order(
    sources: &[Box<dyn Source>],
    tally: &mut Tally,
    seed: u64,
) -> Result<Vec<Keyed>, DataError> {
    let mut found = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        for example in source.examples()? {
            match example {
                Ok(example) => found.push((index, example)),
                Err(left_out) => tally.leave_out(index, left_out),
            }
        }
    }
    let keys = unique_keys(found.iter().map(|(_, example)| (example.name.as_str(), example.origin.as_str())));
    let keyed = found.into_iter().zip(keys);
    let mut images: Vec<Keyed> =
        keyed.map(|((source, example), key)| Keyed { source, key, example }).collect();
    images.sort_by_cached_key(|image| sha256_hex(format!("{seed} {}", image.key).as_bytes()));
    Ok(images)
}

/// The drawing on white, and on as many coloured backgrounds as are wanted, of those that it stands out from. A photo has
/// its own. Also whether its file has fewer pixels than the image.
fn render(image: &Keyed, licenses: &[String], options: &Options) -> Result<(Vec<Entry>, bool), RenderError> {
    let Keyed { source, key, example } = image;
    let cutout = Cutout::new(&example.art, options.size)?;
    let coloured = background::ranked(options.seed, key)
        .into_iter()
        .filter(|background| cutout.stands_out_from(background.colour))
        .take(options.backgrounds);
    let license = example.license.as_ref().unwrap_or(&licenses[*source]);
    let entries = std::iter::once(WHITE)
        .chain(coloured)
        .map(|background| {
            let mut key = key.clone();
            let mut captions = example.captions.clone();
            let mut kind = "drawing";
            if background != WHITE {
                key = format!("{key}_on_{}", background.name.replace(' ', "-"));
                kind = "background";
                captions = captions.on_background(background.name);
            }
            let record = Record {
                captions,
                split: Split::of(&example.concept, options.val_share),
                held_out: None,
                concept: example.concept.clone(),
                license: license.clone(),
                source: example.origin.clone(),
                extra: example.extra.clone(),
            };
            Ok(Entry { key, record, png: encode_png(&cutout.on(background.colour))?, kind })
        })
        .collect::<Result<_, RenderError>>()?;
    Ok((entries, cutout.enlarged()))
}

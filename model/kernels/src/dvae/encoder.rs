//! Inference with the encoder: pixels to tokens.

use std::sync::Mutex;

use super::bands::{Grids, all, each, exchange, fitting, threads};
use super::layers::{BlockLayers, ConvLayer, PointwiseLayer, Use, WinogradLayer};
use super::network::{DvaeNetwork, DvaeSizes};
use super::pixel;
use crate::codes::Best;
use crate::finish::Finish;
use crate::grid::{Buffer, View, zeros};
use crate::resize::Resize;
use crate::simd::Processor;
use crate::stem::{self, Stem};

/// Encodes images of any size.
#[derive(Debug)]
pub struct Encoder {
    processor: Processor,
    stem: stem::StemKernel,
    stem_bias: Vec<f32>,
    groups: [Vec<BlockLayers>; 4],
    logits: PointwiseLayer,
    flops: u64,
    free: Mutex<Vec<Vec<EncoderBand>>>,
}

/// Working memory to encode one band of an image.
#[derive(Debug)]
struct EncoderBand {
    grids: Grids,
    image: Buffer,
    levels: [EncoderLevel; 4],
    logits: Buffer,
    best: Buffer,
    scratch: Buffer,
}

/// Maps of one resolution.
#[derive(Debug)]
struct EncoderLevel {
    /// The input of the first block, where it is not `x`.
    pooled: Buffer,
    x: Buffer,
    hidden: [Buffer; 2],
}

impl AsRef<Grids> for EncoderBand {
    fn as_ref(&self) -> &Grids {
        &self.grids
    }
}

impl Encoder {
    /// From the values of the encoder's parameters, in the order of [`DvaeNetwork::encoder`].
    ///
    /// # Panics
    /// If there are more or fewer values.
    pub fn new(sizes: DvaeSizes, parameters: &[f32]) -> Self {
        let network = DvaeNetwork::new(sizes);
        assert_eq!(parameters.len(), network.codes.w, "the encoder's parameters");
        let (w, b) = network.stem.values(parameters);
        let mut stem = stem::StemKernel::zeros(network.stem.n_out, network.stem.n_in);
        stem.set(w);
        let gain = network.post_gain();
        let groups = network.encoder.each_ref().map(|group| {
            group.iter().map(|block| BlockLayers::for_inference(block, parameters, gain)).collect()
        });
        let mut logits = ConvLayer::zeros(&network.logits, Use::Inference);
        logits.set(parameters, 1.0);
        Self {
            processor: Processor::detect(),
            stem,
            stem_bias: b.to_vec(),
            groups,
            logits,
            flops: network.encoder_flops(),
            free: Mutex::new(Vec::new()),
        }
    }

    /// [`encode`](Self::encode) of each image, several at once where there are threads.
    ///
    /// # Panics
    /// As [`encode`](Self::encode).
    pub fn encode_batch(&self, images: &[&[u8]], width: usize) -> Vec<Vec<u16>> {
        all(images, |rgb, threads| self.encode_on(rgb, width, threads))
    }

    /// The most likely token of each 8×8 pixels of `rgb`, rows of `width` pixels, in raster order.
    ///
    /// # Panics
    /// If the bytes do not fill rows, or a side is not a multiple of 8.
    pub fn encode(&self, rgb: &[u8], width: usize) -> Vec<u16> {
        self.encode_on(rgb, width, threads())
    }

    fn encode_on(&self, rgb: &[u8], width: usize, threads: usize) -> Vec<u16> {
        assert!(
            width > 0 && width.is_multiple_of(8) && !rgb.is_empty() && rgb.len().is_multiple_of(24 * width),
            "{} bytes are not an image {width} pixels wide whose sides are multiples of 8",
            rgb.len()
        );
        let (rows, columns) = (rgb.len() / (24 * width), width / 8);
        let mut bands =
            fitting(&self.free, (rows, columns), self.flops, 2, threads, |grids| self.band(grids));
        let mut rest = rgb;
        for band in &mut bands {
            let grid = &band.grids[0];
            let (own, after) = rest.split_at(3 * grid.height * grid.width);
            for (i, bytes) in own.as_chunks::<3>().0.iter().enumerate() {
                let at = grid.index(0, i / width, i % width);
                for (map, &byte) in band.image.chunks_exact_mut(grid.channel()).zip(bytes) {
                    map[at] = pixel(byte);
                }
            }
            rest = after;
        }
        exchange(&mut bands, 4, |band| &band.grids[0], |band| &mut band.image);
        each(&mut bands, |band| {
            let EncoderBand { grids, image, levels, .. } = band;
            let (grid, kernel, bias) = (&grids[0], &self.stem, &self.stem_bias);
            self.processor.run(Stem { grid, kernel, bias, x: image, y: &mut levels[0].x });
        });
        for (level, blocks) in self.groups.iter().enumerate() {
            if level > 0 {
                each(&mut bands, |band| {
                    let (fine, coarse) = band.levels.split_at_mut(level);
                    let resize = Resize::Max(&fine[level - 1].x, &mut coarse[0].pooled);
                    self.processor.resize(&band.grids[level - 1], &band.grids[level], resize);
                });
            }
            for (place, block) in blocks.iter().enumerate() {
                self.block(level, level > 0 && place == 0, block, &mut bands);
            }
        }
        each(&mut bands, |band| {
            let EncoderBand { grids, levels, logits, best, .. } = band;
            let (grid, layer) = (&grids[3], &self.logits);
            let x = (&levels[3].x[..], true);
            self.processor.pointwise(grid, &layer.kernel, x, Finish::Set(&layer.bias), logits);
            self.processor.run(Best { grid, logits, best });
        });
        let mut tokens = Vec::with_capacity(rows * columns);
        for band in &bands {
            let grid = &band.grids[3];
            tokens.extend((0..grid.height * columns).map(|i| {
                let (phase, tile) = grid.place(0, i / columns, i % columns);
                band.best[phase * grid.tiles + tile] as u16
            }));
        }
        if let Ok(mut free) = self.free.lock() {
            free.push(bands);
        }
        tokens
    }

    fn band(&self, grids: Grids) -> EncoderBand {
        let levels = std::array::from_fn(|level| {
            let (grid, block) = (&grids[level], self.groups[level].first());
            let [input, hidden, wide] = block.map_or([0; 3], |block| {
                let (first, last) = (&block.square[0].conv, &block.wide.conv);
                [first.n_in, first.n_out, last.n_out]
            });
            EncoderLevel {
                pooled: grid.map(if level > 0 { input } else { 0 }),
                x: grid.map(wide),
                hidden: [0, 1].map(|_| grid.map(hidden)),
            }
        });
        let (image, logits) = (grids[0].map(3), grids[3].map(self.logits.conv.n_out));
        let best = zeros(4 * grids[3].tiles);
        EncoderBand { grids, image, levels, logits, best, scratch: zeros(0) }
    }

    /// A block. The first one of a resolution reads the pooled map.
    fn block(&self, level: usize, pooled: bool, block: &BlockLayers, bands: &mut [EncoderBand]) {
        let processor = self.processor;
        exchange(
            bands,
            4,
            |band| &band.grids[level],
            |band| {
                let level = &mut band.levels[level];
                if pooled { &mut level.pooled } else { &mut level.x }
            },
        );
        let first = &block.square[0];
        each(bands, |band| {
            let EncoderBand { grids, levels, scratch, .. } = band;
            let (grid, EncoderLevel { pooled: small, x, hidden: [a, _] }) =
                (&grids[level], &mut levels[level]);
            let x = grid.view(if pooled { small } else { x });
            processor.winograd(grid, &first.kernel, (x, true), Finish::Relu(&first.bias), a, scratch);
        });
        self.hidden(level, &block.square[1], (0, 1), bands);
        self.hidden(level, &block.square[2], (1, 0), bands);
        let wide = &block.wide;
        each(bands, |band| {
            let (grid, level) = (&band.grids[level], &mut band.levels[level]);
            let EncoderLevel { pooled, x, hidden: [a, _] } = level;
            if let Some(id) = &block.id {
                processor.pointwise(grid, &id.kernel, (pooled, false), Finish::Set(&id.bias), x);
            }
            processor.pointwise(grid, &wide.kernel, (a, false), Finish::Accumulate(&wide.bias), x);
        });
    }

    /// A convolution from one hidden map to the other.
    fn hidden(
        &self,
        level: usize,
        layer: &WinogradLayer,
        (from, to): (usize, usize),
        bands: &mut [EncoderBand],
    ) {
        exchange(bands, 4, |band| &band.grids[level], |band| &mut band.levels[level].hidden[from]);
        each(bands, |band| {
            let (grid, [a, b]) = (&band.grids[level], &mut band.levels[level].hidden);
            let (x, y): (View<'_>, _) = if from < to { (grid.view(a), b) } else { (grid.view(b), a) };
            let finish = Finish::Relu(&layer.bias);
            self.processor.winograd(grid, &layer.kernel, (x, false), finish, y, &mut band.scratch);
        });
    }
}

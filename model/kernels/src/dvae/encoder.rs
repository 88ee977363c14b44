//! Inference with the encoder: pixels to tokens.

use std::sync::Mutex;

use super::bands::{Allocate, BandSteps, Bands, Grids, Reach, all, fitting, threads, values};
use super::layers::{BlockLayers, ConvLayer, PointwiseLayer, Use};
use super::network::{DvaeNetwork, DvaeSizes, InferenceValues};
use super::pixel;
use super::team::lock;
use crate::codes::Best;
use crate::finish::Finish;
use crate::grid::{Buffer, Grid, zeros};
use crate::resize::Resize;
use crate::simd::Processor;
use crate::stem::{self, Stem};

/// What a 3×3 convolution reads of the neighbouring bands.
const REACH: Reach = Reach::Pixels(1);

/// What the first layer reads of them.
const STEM_REACH: Reach = Reach::Pixels(stem::SIDE / 2);

/// Encodes images of any size.
#[derive(Debug)]
pub struct Encoder {
    processor: Processor,
    stem: stem::StemKernel,
    stem_bias: Vec<f32>,
    groups: [Vec<BlockLayers>; 4],
    logits: PointwiseLayer,
    sizes: DvaeSizes,
    flops: u64,
    free: Mutex<Vec<Bands<EncoderBand>>>,
}

/// Working memory to encode one band of an image.
#[derive(Debug)]
struct EncoderBand {
    grids: Grids,
    rgb: Vec<u8>,
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

impl EncoderBand {
    fn new(sizes: &DvaeSizes, grids: Grids, buffer: Allocate<'_>) -> Self {
        let map = |grid: &Grid, channels: usize| buffer(channels * grid.channel());
        let levels = std::array::from_fn(|level| {
            let (grid, wide) = (&grids[level], sizes.n_hid << level);
            EncoderLevel {
                pooled: map(grid, if level > 0 { wide / 2 } else { 0 }),
                x: map(grid, wide),
                hidden: [0, 1].map(|_| map(grid, wide / 4)),
            }
        });
        let (image, logits) = (map(&grids[0], 3), map(&grids[3], sizes.vocab));
        let best = buffer(4 * grids[3].tiles);
        Self { grids, rgb: Vec::new(), image, levels, logits, best, scratch: zeros(0) }
    }
}

impl Encoder {
    /// Values that an encoder keeps: its weights, and maps while it encodes `images` images at once on `threads` threads. The size is
    /// that of the grids of tokens.
    pub fn values(sizes: DvaeSizes, size: (usize, usize), images: usize, threads: usize) -> InferenceValues {
        let network = DvaeNetwork::new(sizes);
        let flops = network.encoder_flops();
        InferenceValues {
            weights: network.encoder_values(),
            maps: values(size, flops, 2, (images, threads), |grids, buffer| {
                EncoderBand::new(&sizes, grids, buffer)
            }),
        }
    }

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
            sizes,
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
        let mut bands = fitting(&self.free, (rows, columns), self.flops, 2, threads, |grids| {
            EncoderBand::new(&self.sizes, grids, &zeros)
        });
        let mut rest = rgb;
        for band in bands.iter_mut() {
            let (own, below) = rest.split_at(3 * band.grids[0].height * width);
            band.rgb.clear();
            band.rgb.extend_from_slice(own);
            rest = below;
        }
        bands.run(|steps| self.steps(steps));
        let mut tokens = Vec::with_capacity(rows * columns);
        for band in bands.iter_mut() {
            let grid = &band.grids[3];
            tokens.extend((0..grid.height * columns).map(|i| {
                let (phase, tile) = grid.place(0, i / columns, i % columns);
                band.best[phase * grid.tiles + tile] as u16
            }));
        }
        lock(&self.free).push(bands);
        tokens
    }

    fn steps(&self, steps: &mut BandSteps<'_, '_, EncoderBand>) {
        steps.each(|band, edges| {
            let grid = &band.grids[0];
            for (i, bytes) in band.rgb.as_chunks::<3>().0.iter().enumerate() {
                let at = grid.index(0, i / grid.width, i % grid.width);
                for (map, &byte) in band.image.chunks_exact_mut(grid.channel()).zip(bytes) {
                    map[at] = pixel(byte);
                }
            }
            edges.send(grid, STEM_REACH, &band.image);
        });
        steps.each(|band, edges| {
            let EncoderBand { grids, image, levels, .. } = band;
            let (grid, kernel, bias, y) = (&grids[0], &self.stem, &self.stem_bias, &mut levels[0].x);
            edges.receive(grid, STEM_REACH, image);
            self.processor.run(Stem { grid, kernel, bias, x: image, y });
            edges.send(grid, REACH, y);
        });
        for (level, blocks) in self.groups.iter().enumerate() {
            if level > 0 {
                steps.each(|band, edges| {
                    let (fine, coarse) = band.levels.split_at_mut(level);
                    let (large, small) = (&band.grids[level - 1], &band.grids[level]);
                    let pooled = &mut coarse[0].pooled;
                    self.processor.resize(large, small, Resize::Max(&fine[level - 1].x, pooled));
                    edges.send(small, REACH, pooled);
                });
            }
            for (place, block) in blocks.iter().enumerate() {
                self.block(level, level > 0 && place == 0, block, steps);
            }
        }
        steps.each(|band, _| {
            let EncoderBand { grids, levels, logits, best, .. } = band;
            let (grid, layer) = (&grids[3], &self.logits);
            let x = (&levels[3].x[..], true);
            self.processor.pointwise(grid, &layer.kernel, x, Finish::Set(&layer.bias), logits);
            self.processor.run(Best { grid, logits, best });
        });
    }

    /// A block. The first one of a resolution reads the pooled map.
    fn block(
        &self,
        level: usize,
        pooled: bool,
        block: &BlockLayers,
        steps: &mut BandSteps<'_, '_, EncoderBand>,
    ) {
        let processor = self.processor;
        let first = &block.square[0];
        steps.each(|band, edges| {
            let EncoderBand { grids, levels, scratch, .. } = band;
            let (grid, EncoderLevel { pooled: small, x, hidden: [a, _] }) =
                (&grids[level], &mut levels[level]);
            let x = if pooled { small } else { x };
            edges.receive(grid, REACH, x);
            let x = (grid.view(x), true);
            processor.winograd(grid, &first.kernel, x, Finish::Relu(&first.bias), a, scratch);
            edges.send(grid, REACH, a);
        });
        let second = &block.square[1];
        steps.each(|band, edges| {
            let (grid, [a, b]) = (&band.grids[level], &mut band.levels[level].hidden);
            edges.receive(grid, REACH, a);
            let (x, finish) = ((grid.view(a), false), Finish::Relu(&second.bias));
            processor.winograd(grid, &second.kernel, x, finish, b, &mut band.scratch);
            edges.send(grid, REACH, b);
        });
        let (third, wide) = (&block.square[2], &block.wide);
        steps.each(|band, edges| {
            let (grid, level) = (&band.grids[level], &mut band.levels[level]);
            let EncoderLevel { pooled, x, hidden: [a, b] } = level;
            edges.receive(grid, REACH, b);
            let (input, finish) = ((grid.view(b), false), Finish::Relu(&third.bias));
            processor.winograd(grid, &third.kernel, input, finish, a, &mut band.scratch);
            if let Some(id) = &block.id {
                processor.pointwise(grid, &id.kernel, (pooled, false), Finish::Set(&id.bias), x);
            }
            processor.pointwise(grid, &wide.kernel, (a, false), Finish::Accumulate(&wide.bias), x);
            edges.send(grid, REACH, x);
        });
    }
}

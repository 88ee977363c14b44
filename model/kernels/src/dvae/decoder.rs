//! Inference with the decoder: tokens to pixels.

use std::sync::Mutex;

use pulp::{Simd, WithSimd};

use super::EPSILON;
use super::bands::{Allocate, BandSteps, Bands, Grids, Reach, all, fitting, threads, values};
use super::layers::{BlockLayers, ConvLayer, PointwiseLayer, Use, WinogradLayer};
use super::network::{DvaeNetwork, DvaeSizes, InferenceValues};
use super::team::lock;
use crate::finish::Finish;
use crate::grid::{Buffer, Grid, zeros};
use crate::resize::Resize;
use crate::simd::{Processor, exp, vectors_mut};

/// What a 3×3 convolution reads of the neighbouring bands.
const REACH: Reach = Reach::Pixels(1);

/// Decodes images of tokens, of any size.
#[derive(Debug)]
pub struct Decoder {
    processor: Processor,
    /// The first layer's output for each code, `[vocab, n_init]`.
    table: Vec<f32>,
    sizes: DvaeSizes,
    groups: [Vec<BlockLayers>; 4],
    /// Only μ: the image does not depend on ln b.
    maps: PointwiseLayer,
    flops: u64,
    free: Mutex<Vec<Bands<DecoderBand>>>,
}

/// Working memory to decode one band of an image.
#[derive(Debug)]
struct DecoderBand {
    grids: Grids,
    tokens: Vec<u16>,
    codes: Buffer,
    levels: [DecoderLevel; 4],
    maps: Buffer,
    rgb: Vec<u8>,
    scratch: Buffer,
}

/// Maps of one resolution.
#[derive(Debug)]
struct DecoderLevel {
    x: Buffer,
    hidden: [Buffer; 2],
    /// After an upsampling: hidden map and identity path, one value per tile; `before` is both at the lower resolution.
    tiles: [Buffer; 2],
    before: [Buffer; 2],
}

impl AsRef<Grids> for DecoderBand {
    fn as_ref(&self) -> &Grids {
        &self.grids
    }
}

impl DecoderBand {
    fn new(sizes: &DvaeSizes, grids: Grids, buffer: Allocate<'_>) -> Self {
        let map = |grid: &Grid, channels: usize| buffer(channels * grid.channel());
        let levels = std::array::from_fn(|level| {
            let grid = &grids[level];
            let wide = sizes.n_hid << level;
            let hidden = wide / 4;
            let (small, upsampled) = (&grids[(level + 1).min(3)], if level < 3 { 1 } else { 0 });
            DecoderLevel {
                x: map(grid, wide),
                hidden: [0, 1].map(|_| map(grid, hidden)),
                tiles: [hidden, wide].map(|channels| buffer(upsampled * channels * grid.plane)),
                before: [hidden, wide].map(|channels| map(small, upsampled * channels)),
            }
        });
        let codes = map(&grids[3], sizes.n_init);
        let maps = map(&grids[0], 3);
        let rgb = vec![0; 3 * grids[0].height * grids[0].width];
        Self { grids, tokens: Vec::new(), codes, levels, maps, rgb, scratch: zeros(0) }
    }
}

impl Decoder {
    /// Values that a decoder keeps: its weights, and maps while it decodes `images` images of rows × columns tokens at once on
    /// `threads` threads.
    pub fn values(sizes: DvaeSizes, size: (usize, usize), images: usize, threads: usize) -> InferenceValues {
        let network = DvaeNetwork::new(sizes);
        let flops = network.decoder_flops();
        InferenceValues {
            weights: network.decoder_values(),
            maps: values(size, flops, 1, (images, threads), |grids, buffer| {
                DecoderBand::new(&sizes, grids, buffer)
            }),
        }
    }

    /// From the values of the decoder's parameters, in the order of [`DvaeNetwork::decoder`].
    ///
    /// # Panics
    /// If there are more or fewer values.
    pub fn new(sizes: DvaeSizes, parameters: &[f32]) -> Self {
        let network = DvaeNetwork::new(sizes);
        let first = network.codes.w;
        assert_eq!(parameters.len(), network.length() - first, "the decoder's parameters");
        let (vocab, n_init) = (sizes.vocab, sizes.n_init);
        let (w, b) = network.codes.moved(first).values(parameters);
        let mut table = vec![0.0; vocab * n_init];
        for (code, row) in table.chunks_exact_mut(n_init).enumerate() {
            for (out, value) in row.iter_mut().enumerate() {
                *value = w[out * vocab + code] + b[out];
            }
        }
        let gain = network.post_gain();
        let groups = network.decoder.each_ref().map(|group| {
            group
                .iter()
                .map(|block| BlockLayers::for_inference(&block.moved(first), parameters, gain))
                .collect()
        });
        let mut conv = network.maps.moved(first);
        conv.n_out = 3;
        let mut maps = ConvLayer::zeros(&conv, Use::Inference);
        maps.set(parameters, 1.0);
        let flops = network.decoder_flops();
        let free = Mutex::new(Vec::new());
        Self { processor: Processor::detect(), table, sizes, groups, maps, flops, free }
    }

    /// Codes of the codebook.
    pub fn vocab(&self) -> usize {
        self.sizes.vocab
    }

    /// [`decode`](Self::decode) of each grid, several at once where there are threads.
    ///
    /// # Panics
    /// As [`decode`](Self::decode).
    pub fn decode_batch(&self, grids: &[&[u16]], width: usize) -> Vec<Vec<u8>> {
        all(grids, |tokens, threads| self.decode_on(tokens, width, threads))
    }

    /// The image of `tokens`, rows of `width`: RGB8 of eight times as many rows and columns.
    ///
    /// # Panics
    /// If the tokens do not fill rows, or one is not in the codebook.
    pub fn decode(&self, tokens: &[u16], width: usize) -> Vec<u8> {
        self.decode_on(tokens, width, threads())
    }

    /// What the decoder would paint after each of its four groups if the later ones added nothing: their residual paths are left out,
    /// so that only their identity paths and the output layer follow. RGB8 of one, two, four and eight times as many rows and columns
    /// as the grid has; the last is the image.
    ///
    /// # Panics
    /// As [`decode`](Self::decode).
    pub fn stages(&self, tokens: &[u16], width: usize) -> [Vec<u8>; 4] {
        let mut bands = self.begin(tokens, width, threads());
        let stages = std::array::from_fn(|group| {
            bands.run(|steps| self.group(group, steps));
            bands.iter_mut().flat_map(|band| self.stage(group, band)).collect()
        });
        lock(&self.free).push(bands);
        stages
    }

    fn decode_on(&self, tokens: &[u16], width: usize, threads: usize) -> Vec<u8> {
        let mut bands = self.begin(tokens, width, threads);
        bands.run(|steps| {
            for group in 0..self.groups.len() {
                self.group(group, steps);
            }
            steps.each(|band, _| {
                let DecoderBand { grids, levels, maps, rgb, .. } = band;
                self.output(&grids[0], &levels[0].x, maps, rgb);
            });
        });
        let mut image = Vec::with_capacity(192 * tokens.len());
        bands.iter_mut().for_each(|band| image.extend_from_slice(&band.rgb));
        lock(&self.free).push(bands);
        image
    }

    /// The bands of an image, with their tokens.
    fn begin(&self, tokens: &[u16], width: usize, threads: usize) -> Bands<DecoderBand> {
        assert!(
            width > 0 && !tokens.is_empty() && tokens.len().is_multiple_of(width),
            "{} tokens do not fill rows of {width}",
            tokens.len()
        );
        let vocab = self.vocab();
        assert!(
            tokens.iter().all(|&token| usize::from(token) < vocab),
            "a token is not in the codebook of {vocab}"
        );
        let size = (tokens.len() / width, width);
        let mut bands = fitting(&self.free, size, self.flops, 1, threads, |grids| {
            DecoderBand::new(&self.sizes, grids, &zeros)
        });
        let mut rest = tokens;
        for band in bands.iter_mut() {
            let (own, below) = rest.split_at(band.grids[3].height * width);
            band.tokens.clear();
            band.tokens.extend_from_slice(own);
            rest = below;
        }
        bands
    }

    /// The first layer.
    fn look_up(&self, band: &mut DecoderBand) {
        let grid = &band.grids[3];
        let channel = grid.channel();
        for (i, &token) in band.tokens.iter().enumerate() {
            let at = grid.index(0, i / grid.width, i % grid.width);
            let row = &self.table[usize::from(token) * self.sizes.n_init..][..self.sizes.n_init];
            for (map, value) in band.codes.chunks_exact_mut(channel).zip(row) {
                map[at] = *value;
            }
        }
    }

    /// The blocks of a group, and before the first group the first layer.
    fn group(&self, group: usize, steps: &mut BandSteps<'_, '_, DecoderBand>) {
        if group == 0 {
            steps.each(|band, _| self.look_up(band));
        }
        for (place, block) in self.groups[group].iter().enumerate() {
            if place == 0 && group > 0 {
                self.upsampled_block(3 - group, block, steps);
            } else {
                self.block(3 - group, (group, place) == (0, 0), block, steps);
            }
        }
    }

    /// A band of the image after a group. The later identity paths are 1×1 convolutions, which commute with upsampling, so that they
    /// run at this group's resolution.
    fn stage(&self, group: usize, band: &DecoderBand) -> Vec<u8> {
        let grid = &band.grids[3 - group];
        let mut x = band.levels[3 - group].x.clone();
        for id in self.groups[group + 1..].iter().filter_map(|blocks| blocks.first()?.id.as_ref()) {
            let mut y = grid.map(id.conv.n_out);
            self.processor.pointwise(grid, &id.kernel, (&x, false), Finish::Set(&id.bias), &mut y);
            x = y;
        }
        let mut rgb = vec![0; 3 * grid.height * grid.width];
        self.output(grid, &x, &mut grid.map(3), &mut rgb);
        rgb
    }

    /// The output layer, as bytes.
    fn output(&self, grid: &Grid, x: &[f32], maps: &mut Buffer, rgb: &mut [u8]) {
        let finish = Finish::Set(&self.maps.bias);
        self.processor.pointwise(grid, &self.maps.kernel, (x, true), finish, maps);
        self.processor.run(Colours(maps));
        interleave(grid, maps, rgb);
    }

    /// A block at one resolution; the first one reads the codes.
    fn block(
        &self,
        level: usize,
        first: bool,
        block: &BlockLayers,
        steps: &mut BandSteps<'_, '_, DecoderBand>,
    ) {
        let processor = self.processor;
        steps.each(|band, edges| {
            let DecoderBand { grids, codes, levels, .. } = band;
            let (grid, DecoderLevel { x, hidden: [a, _], .. }) = (&grids[level], &mut levels[level]);
            let input = if first { &*codes } else { &*x };
            let finish = Finish::Relu(&block.wide.bias);
            processor.pointwise(grid, &block.wide.kernel, (input, true), finish, a);
            edges.send(grid, REACH, a);
            match &block.id {
                Some(id) => processor.pointwise(grid, &id.kernel, (codes, false), Finish::Set(&id.bias), x),
                None if first => x.copy_from_slice(codes),
                None => {}
            }
        });
        self.hidden(level, &block.square[0], (0, 1), steps);
        self.hidden(level, &block.square[1], (1, 0), steps);
        let last = &block.square[2];
        steps.each(|band, edges| {
            let DecoderBand { grids, levels, scratch, .. } = band;
            let (grid, DecoderLevel { x, hidden: [a, _], .. }) = (&grids[level], &mut levels[level]);
            edges.receive(grid, REACH, a);
            let finish = Finish::Accumulate(&last.bias);
            processor.winograd(grid, &last.kernel, (grid.view(a), false), finish, x, scratch);
        });
    }

    /// The first block of a resolution. ReLU and 1×1 convolutions commute with the upsampling, so they run before it.
    fn upsampled_block(&self, level: usize, block: &BlockLayers, steps: &mut BandSteps<'_, '_, DecoderBand>) {
        let processor = self.processor;
        steps.each(|band, edges| {
            let DecoderBand { grids, levels, .. } = band;
            let (fine, coarse) = levels.split_at_mut(level + 1);
            let (DecoderLevel { tiles: [hidden, id_tiles], before, .. }, x) =
                (&mut fine[level], &coarse[0].x);
            let (grid, small) = (&grids[level], &grids[level + 1]);
            let (wide, [a, b]) = (&block.wide, before);
            processor.pointwise(small, &wide.kernel, (x, true), Finish::Relu(&wide.bias), a);
            processor.resize(grid, small, Resize::Tiles(a, hidden));
            edges.send(grid, Reach::Tile, hidden);
            if let Some(id) = &block.id {
                processor.pointwise(small, &id.kernel, (x, false), Finish::Set(&id.bias), b);
                processor.resize(grid, small, Resize::Tiles(b, id_tiles));
            }
        });
        let first = &block.square[0];
        steps.each(|band, edges| {
            let DecoderBand { grids, levels, scratch, .. } = band;
            let (grid, DecoderLevel { hidden: [a, _], tiles, .. }) = (&grids[level], &mut levels[level]);
            edges.receive(grid, Reach::Tile, &mut tiles[0]);
            let (x, finish) = (grid.upsampled(&tiles[0]), Finish::Relu(&first.bias));
            processor.winograd(grid, &first.kernel, (x, false), finish, a, scratch);
            edges.send(grid, REACH, a);
        });
        self.hidden(level, &block.square[1], (0, 1), steps);
        let last = &block.square[2];
        steps.each(|band, edges| {
            let DecoderBand { grids, levels, scratch, .. } = band;
            let (grid, DecoderLevel { x, hidden: [_, b], tiles, .. }) = (&grids[level], &mut levels[level]);
            edges.receive(grid, REACH, b);
            let finish = Finish::Add(&last.bias, grid.upsampled(&tiles[1]));
            processor.winograd(grid, &last.kernel, (grid.view(b), false), finish, x, scratch);
        });
    }

    /// A convolution from one hidden map to the other.
    fn hidden(
        &self,
        level: usize,
        layer: &WinogradLayer,
        (from, to): (usize, usize),
        steps: &mut BandSteps<'_, '_, DecoderBand>,
    ) {
        steps.each(|band, edges| {
            let (grid, [a, b]) = (&band.grids[level], &mut band.levels[level].hidden);
            let (x, y) = if from < to { (a, b) } else { (b, a) };
            edges.receive(grid, REACH, x);
            let finish = Finish::Relu(&layer.bias);
            let x = (grid.view(x), false);
            self.processor.winograd(grid, &layer.kernel, x, finish, y, &mut band.scratch);
            edges.send(grid, REACH, y);
        });
    }
}

/// μ to bytes, not yet rounded down: 255·φ⁻¹(sigmoid(μ)) + ½, to be dispatched.
struct Colours<'a>(&'a mut [f32]);

impl WithSimd for Colours<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let one = s.splat_f32s(1.0);
        let scale = 255.0 / (1.0 - 2.0 * EPSILON);
        let (factor, offset) = (s.splat_f32s(scale), s.splat_f32s(0.5 - scale * EPSILON));
        for at in (0..self.0.len()).step_by(S::F32_LANES) {
            let x = &mut vectors_mut::<S, 1>(self.0, at)[0];
            let sigmoid = s.div_f32s(one, s.add_f32s(one, exp(s, s.sub_f32s(s.splat_f32s(0.0), *x))));
            let byte = s.mul_add_e_f32s(sigmoid, factor, offset);
            *x = s.max_f32s(s.min_f32s(byte, s.splat_f32s(255.0)), s.splat_f32s(0.0));
        }
    }
}

/// Three maps as interleaved bytes.
fn interleave(grid: &Grid, maps: &[f32], rgb: &mut [u8]) {
    for (y, row) in rgb.chunks_exact_mut(3 * grid.width).enumerate() {
        let (pixels, _) = row.as_chunks_mut::<3>();
        for side in 0..2.min(grid.width) {
            let from = grid.index(0, y, side);
            let count = (grid.width - side).div_ceil(2);
            let line = |channel: usize| &maps[channel * grid.channel() + from..][..count];
            let (red, green, blue) = (line(0), line(1), line(2));
            for (((pixel, r), g), b) in pixels.iter_mut().skip(side).step_by(2).zip(red).zip(green).zip(blue)
            {
                *pixel = [*r as u8, *g as u8, *b as u8];
            }
        }
    }
}

//! The forward pass: images to logits, relaxed codes to maps.

use crate::simd::Processor;

use super::layers::{BlockLayers, PointwiseLayer, WinogradLayer};
use super::memory::{DvaeBlockMemory, DvaeMemory, DvaeScratch};
use super::weights::DvaeWeights;
use crate::codes::Relax;
use crate::finish::Finish;
use crate::grid::{Grid, View};
use crate::resize::Resize;
use crate::stem::Stem;

/// The CPU's vectors and the layers.
#[derive(Clone, Copy)]
pub(super) struct DvaeContext<'a> {
    pub processor: Processor,
    pub weights: &'a DvaeWeights,
}

impl DvaeContext<'_> {
    fn hidden(
        self,
        grid: &Grid,
        layer: &WinogradLayer,
        x: View<'_>,
        relu: bool,
        y: &mut [f32],
        scratch: &mut DvaeScratch,
    ) {
        self.processor.winograd(
            grid,
            &layer.kernel,
            (x, relu),
            Finish::Relu(&layer.bias),
            y,
            &mut scratch.kernels,
        );
    }

    fn encoder_block(
        self,
        grid: &Grid,
        block: &BlockLayers,
        x: &[f32],
        memory: &mut DvaeBlockMemory,
        scratch: &mut DvaeScratch,
    ) {
        let DvaeBlockMemory { hidden: [first, second, third], output } = memory;
        self.hidden(grid, &block.square[0], grid.view(x), true, first, scratch);
        self.hidden(grid, &block.square[1], grid.view(first), false, second, scratch);
        self.hidden(grid, &block.square[2], grid.view(second), false, third, scratch);
        let finish = self.identity(grid, block.id.as_ref(), x, &block.wide.bias, output);
        self.processor.pointwise(grid, &block.wide.kernel, (third, false), finish, output);
    }

    /// Writes the identity path to `output` where it has a convolution. Returns how to add the residual path.
    fn identity<'b>(
        self,
        grid: &Grid,
        id: Option<&PointwiseLayer>,
        x: &'b [f32],
        bias: &'b [f32],
        output: &mut [f32],
    ) -> Finish<'b> {
        match id {
            Some(id) => {
                self.processor.pointwise(grid, &id.kernel, (x, false), Finish::Set(&id.bias), output);
                Finish::Accumulate(bias)
            }
            None => Finish::Add(bias, grid.view(x)),
        }
    }

    fn decoder_block(
        self,
        grid: &Grid,
        block: &BlockLayers,
        x: &[f32],
        memory: &mut DvaeBlockMemory,
        scratch: &mut DvaeScratch,
    ) {
        let DvaeBlockMemory { hidden: [first, second, third], output } = memory;
        self.processor.pointwise(grid, &block.wide.kernel, (x, true), Finish::Relu(&block.wide.bias), first);
        self.hidden(grid, &block.square[0], grid.view(first), false, second, scratch);
        self.hidden(grid, &block.square[1], grid.view(second), false, third, scratch);
        let last = &block.square[2];
        let finish = self.identity(grid, block.id.as_ref(), x, &last.bias, output);
        self.processor.winograd(
            grid,
            &last.kernel,
            (grid.view(third), false),
            finish,
            output,
            &mut scratch.kernels,
        );
    }
}

impl DvaeMemory {
    /// The images to logits.
    pub fn encode(&mut self, cx: DvaeContext<'_>) {
        let Self { grids, image, stem, encoder, pooled, logits, scratch, .. } = self;
        let weights = cx.weights;
        let (kernel, bias) = (&weights.stem, &weights.stem_bias);
        cx.processor.run(Stem { grid: &grids[0], kernel, bias, x: image, y: stem });
        for group in 0..4 {
            let (finer, rest) = encoder.split_at_mut(group);
            if let Some(finer) = finer.last() {
                let y = &mut pooled[group - 1];
                cx.processor.resize(&grids[group - 1], &grids[group], Resize::Max(output(finer), y));
            }
            for (place, block) in weights.encoder[group].iter().enumerate() {
                let (before, rest) = rest[0].split_at_mut(place);
                let x = match before.last() {
                    Some(before) => &before.output,
                    None if group == 0 => &*stem,
                    None => &pooled[group - 1],
                };
                cx.encoder_block(&grids[group], block, x, &mut rest[0], scratch);
            }
        }
        let last = &weights.logits;
        let x = (output(&encoder[3]), true);
        cx.processor.pointwise(&grids[3], &last.kernel, x, Finish::Set(&last.bias), logits);
    }

    /// Logits, and the noise that `z` holds, to relaxed codes. Returns the sum of KL divergences.
    pub fn relax(&mut self, cx: DvaeContext<'_>, tau: f32) -> f64 {
        let Self { grids, logits, z, statistics, best, .. } = self;
        cx.processor.run(Relax { grid: &grids[3], logits, z, tau, statistics, best })
    }

    /// Relaxed codes to maps.
    pub fn decode(&mut self, cx: DvaeContext<'_>) {
        let Self { grids, z, codes, decoder, maps, work, scratch, .. } = self;
        let weights = cx.weights;
        cx.processor.pointwise(
            &grids[3],
            &weights.codes.kernel,
            (z, false),
            Finish::Set(&weights.codes.bias),
            codes,
        );
        for group in 0..4 {
            let level = 3 - group;
            let grid = &grids[level];
            let (coarser, rest) = decoder.split_at_mut(group);
            for (place, block) in weights.decoder[group].iter().enumerate() {
                let (before, rest) = rest[0].split_at_mut(place);
                let memory = &mut rest[0];
                match (before.last(), coarser.last()) {
                    (Some(before), _) => cx.decoder_block(grid, block, &before.output, memory, scratch),
                    (None, None) => cx.decoder_block(grid, block, codes, memory, scratch),
                    (None, Some(coarser)) => {
                        // ReLU and 1×1 convolutions commute with the upsampling.
                        let (x, small) = (output(coarser), &grids[level + 1]);
                        let DvaeBlockMemory { hidden: [first, second, third], output } = memory;
                        let wide = &block.wide;
                        let hidden = &mut work.before[level][0];
                        cx.processor.pointwise(
                            small,
                            &wide.kernel,
                            (x, true),
                            Finish::Relu(&wide.bias),
                            hidden,
                        );
                        cx.processor.resize(grid, small, Resize::Tiles(hidden, first));
                        let tiles = &mut work.tiles[level];
                        if let Some(id) = &block.id {
                            let y = &mut work.before_id[level];
                            cx.processor.pointwise(small, &id.kernel, (x, false), Finish::Set(&id.bias), y);
                            cx.processor.resize(grid, small, Resize::Tiles(y, tiles));
                        }
                        cx.hidden(grid, &block.square[0], grid.upsampled(first), false, second, scratch);
                        cx.hidden(grid, &block.square[1], grid.view(second), false, third, scratch);
                        let last = &block.square[2];
                        let finish = Finish::Add(&last.bias, grid.upsampled(tiles));
                        cx.processor.winograd(
                            grid,
                            &last.kernel,
                            (grid.view(third), false),
                            finish,
                            output,
                            &mut scratch.kernels,
                        );
                    }
                }
            }
        }
        let last = &weights.maps;
        let x = (output(&decoder[3]), true);
        cx.processor.pointwise(&grids[0], &last.kernel, x, Finish::Set(&last.bias), maps);
    }
}

/// The output of a group.
pub(super) fn output(group: &[DvaeBlockMemory]) -> &[f32] {
    group.last().map_or(&[], |block| &block.output)
}

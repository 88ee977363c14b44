//! The backward pass: from the gradient of the decoder's maps to those of all parameters.

use super::forward::{DvaeContext, output};
use super::layers::{PointwiseLayer, WinogradLayer};
use super::memory::{DvaeBlockMemory, DvaeMemory, DvaeScratch};
use super::network::Conv;
use crate::codes::RelaxGradient;
use crate::finish::Finish;
use crate::gradient::{BiasGradient, KernelGradient, PointwiseGradient};
use crate::grid::{Grid, View};
use crate::outer::{OuterGradient, OuterPointwiseGradient};
use crate::resize::Resize;
use crate::stem::StemGradient;

/// The gradients of a convolution's kernel and bias.
fn slices<'a>(conv: &Conv, gradients: &'a mut [f32]) -> (&'a mut [f32], &'a mut [f32]) {
    let length = conv.n_out * conv.n_in * conv.side * conv.side;
    // A bias follows its kernel.
    let (dw, rest) = gradients[conv.w..].split_at_mut(length);
    (dw, &mut rest[conv.b - conv.w - length..][..conv.n_out])
}

impl DvaeContext<'_> {
    /// Adds the gradients of a 1×1 convolution's parameters.
    fn learn_pointwise(
        self,
        grid: &Grid,
        conv: &Conv,
        dy: &[f32],
        (x, relu): (&[f32], bool),
        gradients: &mut [f32],
        scratch: &mut DvaeScratch,
    ) {
        let (dw, db) = slices(conv, gradients);
        let n_in = conv.n_in;
        if n_in.min(conv.n_out) >= 48 {
            let memory = &mut scratch.outer;
            self.processor.run(OuterPointwiseGradient { grid, dy, x, relu, dw, n_in, memory });
        } else {
            self.processor.run(PointwiseGradient { grid, dy, x, relu, dw, n_in });
        }
        self.processor.run(BiasGradient { grid, dy, db });
    }

    /// Adds the gradients of a 3×3 convolution's parameters.
    fn learn_winograd(
        self,
        grid: &Grid,
        conv: &Conv,
        dy: &[f32],
        (x, relu): (View<'_>, bool),
        gradients: &mut [f32],
        scratch: &mut DvaeScratch,
    ) {
        let (dw, db) = slices(conv, gradients);
        let n_in = conv.n_in;
        // With fewer channels, the transposition costs more than it saves.
        if n_in.min(conv.n_out) >= 12 && n_in.max(conv.n_out) >= 24 {
            let memory = &mut scratch.outer;
            self.processor.run(OuterGradient { grid, dy, x, relu, dw, n_in, memory });
        } else {
            let scratch = &mut scratch.kernels;
            self.processor.run(KernelGradient { grid, dy, x, relu, dw, n_in, scratch });
        }
        self.processor.run(BiasGradient { grid, dy, db });
    }

    /// Gradients of a 3×3 convolution between hidden maps: its parameters', and its input's.
    fn square(
        self,
        grid: &Grid,
        layer: &WinogradLayer,
        dy: &[f32],
        x: &[f32],
        dx: &mut [f32],
        gradients: &mut [f32],
        scratch: &mut DvaeScratch,
    ) {
        self.learn_winograd(grid, &layer.conv, dy, (grid.view(x), false), gradients, scratch);
        self.processor.winograd(
            grid,
            layer.backward(),
            (grid.view(dy), false),
            Finish::Gate(x),
            dx,
            &mut scratch.kernels,
        );
    }

    /// The gradient of an identity path with a convolution.
    fn identity_gradient(
        self,
        grid: &Grid,
        id: &PointwiseLayer,
        dy: &[f32],
        x: &[f32],
        dx: &mut [f32],
        gradients: &mut [f32],
        scratch: &mut DvaeScratch,
    ) {
        self.learn_pointwise(grid, &id.conv, dy, (x, false), gradients, scratch);
        self.processor.pointwise(grid, id.backward(), (dy, false), Finish::Set(&[]), dx);
    }
}

impl DvaeMemory {
    /// Adds the gradients of the decoder's parameters: `maps` holds the gradient of the maps, `dz` gets that of the codes.
    pub fn decode_backward(&mut self, cx: DvaeContext<'_>, gradients: &mut [f32]) {
        let Self { grids, z, dz, codes, decoder, maps, work, scratch, .. } = self;
        let weights = cx.weights;
        let x = output(&decoder[3]);
        cx.learn_pointwise(&grids[0], &weights.maps.conv, maps, (x, true), gradients, scratch);
        cx.processor.pointwise(
            &grids[0],
            weights.maps.backward(),
            (maps, false),
            Finish::Gate(x),
            &mut work.output[0],
        );
        // Whether the gradient of the decoder's first block went to `work.input`.
        let mut moved = false;
        for group in (0..4).rev() {
            let level = 3 - group;
            let grid = &grids[level];
            for (place, block) in weights.decoder[group].iter().enumerate().rev() {
                let DvaeBlockMemory { hidden: [first, second, third], .. } = &decoder[group][place];
                let (fine, coarse) = work.output.split_at_mut(level + 1);
                let d = &mut fine[level];
                let [t, u] = &mut work.hidden[level];
                let [next, middle, last] = &block.square;
                cx.square(grid, last, d, third, t, gradients, scratch);
                cx.square(grid, middle, t, second, u, gradients, scratch);
                if place == 0 && group > 0 {
                    let (x, small) = (output(&decoder[group - 1]), &grids[level + 1]);
                    let x_view = (grid.upsampled(first), false);
                    cx.learn_winograd(grid, &next.conv, u, x_view, gradients, scratch);
                    let tiles = &mut work.tiles[level][..first.len()];
                    cx.processor.winograd(
                        grid,
                        next.backward(),
                        (grid.view(u), false),
                        Finish::SumGate(first),
                        tiles,
                        &mut scratch.kernels,
                    );
                    let [_, hidden] = &mut work.before[level];
                    cx.processor.resize(grid, small, Resize::Pixels(tiles, hidden));
                    let wide = &block.wide;
                    cx.learn_pointwise(small, &wide.conv, hidden, (x, true), gradients, scratch);
                    let sum = &mut work.before_id[level];
                    cx.processor.resize(grid, small, Resize::Sum(d, sum));
                    let dx = &mut coarse[0];
                    if let Some(id) = &block.id {
                        cx.identity_gradient(small, id, sum, x, dx, gradients, scratch);
                    }
                    cx.processor.pointwise(small, wide.backward(), (hidden, false), Finish::AddGate(x), dx);
                } else {
                    let x = if place > 0 { &decoder[group][place - 1].output } else { &*codes };
                    cx.square(grid, next, u, first, t, gradients, scratch);
                    let wide = &block.wide;
                    cx.learn_pointwise(grid, &wide.conv, t, (x, true), gradients, scratch);
                    let dx = if let Some(id) = &block.id {
                        let dx = &mut work.input[level][..x.len()];
                        cx.identity_gradient(grid, id, d, x, dx, gradients, scratch);
                        moved = true;
                        dx
                    } else {
                        &mut d[..]
                    };
                    cx.processor.pointwise(grid, wide.backward(), (t, false), Finish::AddGate(x), dx);
                }
            }
        }
        let d = if moved { &work.input[3] } else { &work.output[3] };
        let d = &d[..codes.len()];
        cx.learn_pointwise(&grids[3], &weights.codes.conv, d, (z, false), gradients, scratch);
        cx.processor.pointwise(&grids[3], weights.codes.backward(), (d, false), Finish::Set(&[]), dz);
    }

    /// The gradient of the relaxed codes to that of the logits, in `dz`.
    pub fn relax_backward(&mut self, cx: DvaeContext<'_>, tau: f32, kl: f32) {
        let Self { grids, logits, z, dz, statistics, .. } = self;
        cx.processor.run(RelaxGradient { grid: &grids[3], logits, z, statistics, tau, kl, dz });
    }

    /// Adds the gradients of the encoder's parameters: `dz` holds the gradient of the logits.
    pub fn encode_backward(&mut self, cx: DvaeContext<'_>, gradients: &mut [f32]) {
        let Self { grids, image, stem, encoder, pooled, dz, work, scratch, .. } = self;
        let weights = cx.weights;
        let x = output(&encoder[3]);
        cx.learn_pointwise(&grids[3], &weights.logits.conv, dz, (x, true), gradients, scratch);
        cx.processor.pointwise(
            &grids[3],
            weights.logits.backward(),
            (dz, false),
            Finish::Gate(x),
            &mut work.output[3],
        );
        for group in (0..4).rev() {
            let grid = &grids[group];
            let mut moved = false;
            for (place, block) in weights.encoder[group].iter().enumerate().rev() {
                let DvaeBlockMemory { hidden: [first, second, third], .. } = &encoder[group][place];
                let d = &mut work.output[group];
                let [t, u] = &mut work.hidden[group];
                let x = match place {
                    0 if group == 0 => &*stem,
                    0 => &pooled[group - 1],
                    _ => &encoder[group][place - 1].output,
                };
                let wide = &block.wide;
                cx.learn_pointwise(grid, &wide.conv, d, (third, false), gradients, scratch);
                cx.processor.pointwise(grid, wide.backward(), (d, false), Finish::Gate(third), t);
                cx.square(grid, &block.square[2], t, second, u, gradients, scratch);
                cx.square(grid, &block.square[1], u, first, t, gradients, scratch);
                let next = &block.square[0];
                cx.learn_winograd(grid, &next.conv, t, (grid.view(x), true), gradients, scratch);
                let dx = if let Some(id) = &block.id {
                    let dx = &mut work.input[group][..x.len()];
                    cx.identity_gradient(grid, id, d, x, dx, gradients, scratch);
                    moved = true;
                    dx
                } else {
                    &mut d[..]
                };
                cx.processor.winograd(
                    grid,
                    next.backward(),
                    (grid.view(t), false),
                    Finish::AddGate(x),
                    dx,
                    &mut scratch.kernels,
                );
            }
            if group > 0 {
                let pooled = &pooled[group - 1];
                let (fine, coarse) = work.output.split_at_mut(group);
                let dy = if moved { &work.input[group] } else { &coarse[0] };
                let resize = Resize::MaxGradient(
                    output(&encoder[group - 1]),
                    &dy[..pooled.len()],
                    &mut fine[group - 1],
                );
                cx.processor.resize(&grids[group - 1], grid, resize);
            }
        }
        let (grid, dy) = (&grids[0], &work.output[0]);
        let conv = cx.weights.stem_conv;
        let (dw, db) = slices(&conv, gradients);
        cx.processor.run(StemGradient { grid, dy, x: image, dw, n_in: conv.n_in });
        cx.processor.run(BiasGradient { grid, dy, db });
    }
}

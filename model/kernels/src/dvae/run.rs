//! Kernels as calls.

use crate::finish::Finish;
use crate::grid::{Buffer, Grid, View};
use crate::resize::{Resize, ResizePair, Resizing};
use crate::simd::Processor;
use crate::{pointwise, winograd};

impl Processor {
    /// A 1×1 convolution of `x`, after a ReLU where `relu` says so.
    pub(super) fn pointwise(
        self,
        grid: &Grid,
        kernel: &pointwise::PointwiseKernel,
        (x, relu): (&[f32], bool),
        finish: Finish<'_>,
        y: &mut [f32],
    ) {
        self.run(pointwise::Pointwise { grid, kernel, x, relu, finish, y });
    }

    /// A 3×3 convolution of `x`, after a ReLU where `relu` says so.
    pub(super) fn winograd(
        self,
        grid: &Grid,
        kernel: &winograd::WinogradKernel,
        (x, relu): (View<'_>, bool),
        finish: Finish<'_>,
        y: &mut [f32],
        scratch: &mut Buffer,
    ) {
        self.run(winograd::Convolution { grid, kernel, x, relu, finish, y, scratch });
    }

    /// A change of resolution.
    pub(super) fn resize(self, large: &Grid, small: &Grid, resize: Resize<'_>) {
        self.run(Resizing(ResizePair { large, small }, resize));
    }
}

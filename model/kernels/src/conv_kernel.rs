//! What the kernels of convolutions have in common.

/// A kernel in the order in which a convolution reads it.
pub trait ConvKernel {
    /// A kernel of zeros.
    fn zeros(n_out: usize, n_in: usize) -> Self;

    /// Becomes the kernel `w`, `[out, in, side, side]`, times `gain`.
    fn set(&mut self, w: &[f32], gain: f32);

    /// Becomes the kernel that takes gradients back through `w`, `[in, out, side, side]`: transposed and turned round, times `gain`.
    fn set_backward(&mut self, w: &[f32], gain: f32);
}

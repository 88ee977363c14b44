//! How large the initial weights of a layer are.

/// Standard deviation of the prior's initial weights, as in GPT-2. The paper does not state one.
pub const INIT_STD: f64 = 0.02;

/// Standard deviations of a layer's initial weights.
#[derive(Clone, Copy, Debug)]
pub struct InitStd {
    /// The matrix of queries, keys and values.
    pub qkv: f64,
    /// The MLP's first matrix.
    pub fc1: f64,
    /// The two matrices that write to the residual stream.
    pub residual: f64,
}

impl InitStd {
    /// As in GPT-2. The matrices that write to the residual stream are smaller by a factor of √(2·layers), so that the stream's
    /// variance does not grow with depth.
    pub fn gpt2(layers: usize) -> Self {
        Self { qkv: INIT_STD, fc1: INIT_STD, residual: INIT_STD / ((2 * layers) as f64).sqrt() }
    }

    /// As in CLIP's released code, for a tower of this width.
    pub fn clip(width: usize, layers: usize) -> Self {
        let width = width as f64;
        Self {
            qkv: width.powf(-0.5),
            fc1: (2.0 * width).powf(-0.5),
            residual: (width * 2.0 * layers as f64).powf(-0.5),
        }
    }
}

//! The dVAE's layers and where their parameters are.

use crate::parameters::{Builder, Parameter};

/// The sizes of a dVAE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DvaeSizes {
    /// Width of the widest maps' blocks.
    pub n_hid: usize,
    /// Width of the decoder's first layer.
    pub n_init: usize,
    /// Residual blocks of a group.
    pub blocks_per_group: usize,
    /// Entries of the codebook.
    pub vocab: usize,
}

/// A convolution: its sizes, and where kernel and bias begin among all parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conv {
    pub n_in: usize,
    pub n_out: usize,
    pub side: usize,
    pub w: usize,
    pub b: usize,
}

/// What a decoder or an encoder keeps in memory, in values of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InferenceValues {
    /// Weights as the kernels read them.
    pub weights: usize,
    /// Feature maps.
    pub maps: usize,
}

/// Values of a layer's kernel as it is used. A 3×3 kernel is transformed into 4×4 values.
fn packed(conv: &Conv) -> usize {
    let values = if conv.side == 3 { 16 } else { conv.side * conv.side };
    values * conv.n_in * conv.n_out
}

/// The same of blocks.
fn values(groups: &[Vec<DvaeBlock>; 4]) -> usize {
    groups.iter().flatten().flat_map(|block| block.id.iter().chain(&block.res)).map(packed).sum()
}

/// Operations of blocks whose groups have `pixels` for each token.
fn flops(groups: &[Vec<DvaeBlock>; 4], pixels: impl Fn(usize) -> u64) -> u64 {
    let block = |block: &DvaeBlock| block.id.iter().chain(&block.res).map(Conv::flops).sum::<u64>();
    groups
        .iter()
        .enumerate()
        .map(|(group, blocks)| pixels(group) * blocks.iter().map(block).sum::<u64>())
        .sum()
}

impl Conv {
    /// Operations for each pixel.
    fn flops(&self) -> u64 {
        2 * (self.n_in * self.n_out * self.side * self.side) as u64
    }

    /// The same with its parameters `first` values earlier.
    pub fn moved(&self, first: usize) -> Self {
        Self { w: self.w - first, b: self.b - first, ..*self }
    }

    /// The values of kernel and bias.
    pub fn values<'a>(&self, parameters: &'a [f32]) -> (&'a [f32], &'a [f32]) {
        let length = self.n_out * self.n_in * self.side * self.side;
        (&parameters[self.w..][..length], &parameters[self.b..][..self.n_out])
    }
}

/// A residual block.
#[derive(Clone, Copy, Debug)]
pub(super) struct DvaeBlock {
    /// The 1×1 convolution of the identity path, where the widths differ.
    pub id: Option<Conv>,
    pub res: [Conv; 4],
}

impl DvaeBlock {
    /// The same with its parameters `first` values earlier.
    pub fn moved(&self, first: usize) -> Self {
        Self { id: self.id.map(|id| id.moved(first)), res: self.res.map(|conv| conv.moved(first)) }
    }
}

/// All layers.
#[derive(Clone, Debug)]
pub struct DvaeNetwork {
    /// The sizes.
    pub sizes: DvaeSizes,
    /// All parameters, in the order in which they follow each other.
    pub parameters: Vec<Parameter>,
    pub(super) stem: Conv,
    pub(super) encoder: [Vec<DvaeBlock>; 4],
    pub(super) logits: Conv,
    pub(super) codes: Conv,
    pub(super) decoder: [Vec<DvaeBlock>; 4],
    pub(super) maps: Conv,
}

/// Adds layers to a list of parameters.
struct Layers(Builder);

impl Layers {
    fn conv(&mut self, name: &str, n_in: usize, n_out: usize, side: usize) -> Conv {
        let w = self.0.add(format!("{name}.w"), vec![n_out, n_in, side, side]);
        let b = self.0.add(format!("{name}.b"), vec![n_out]);
        Conv { n_in, n_out, side, w, b }
    }

    fn groups(
        &mut self,
        half: &str,
        sizes: &DvaeSizes,
        factors: [usize; 4],
        mut n_in: usize,
        sides: [usize; 4],
    ) -> [Vec<DvaeBlock>; 4] {
        let mut group = 0;
        factors.map(|factor| {
            let n_out = factor * sizes.n_hid;
            let blocks = (0..sizes.blocks_per_group).map(|place| {
                let block = self.block(&format!("{half}.groups.{group}.{place}"), n_in, n_out, sides);
                n_in = n_out;
                block
            });
            let blocks = blocks.collect();
            group += 1;
            blocks
        })
    }

    fn block(&mut self, name: &str, n_in: usize, n_out: usize, sides: [usize; 4]) -> DvaeBlock {
        let hidden = n_out / 4;
        let widths = [n_in, hidden, hidden, hidden, n_out];
        let id = (n_in != n_out).then(|| self.conv(&format!("{name}.id_path"), n_in, n_out, 1));
        let res = [0, 1, 2, 3].map(|i| {
            self.conv(&format!("{name}.res_path.conv_{}", i + 1), widths[i], widths[i + 1], sides[i])
        });
        DvaeBlock { id, res }
    }
}

impl DvaeNetwork {
    /// The layers of a dVAE.
    pub fn new(sizes: DvaeSizes) -> Self {
        let mut builder = Layers(Builder::default());
        let DvaeSizes { n_hid, n_init, vocab, .. } = sizes;
        let stem = builder.conv("encoder.input", 3, n_hid, 7);
        let encoder = builder.groups("encoder", &sizes, [1, 2, 4, 8], n_hid, [3, 3, 3, 1]);
        let logits = builder.conv("encoder.output", 8 * n_hid, vocab, 1);
        let codes = builder.conv("decoder.input", vocab, n_init, 1);
        let decoder = builder.groups("decoder", &sizes, [8, 4, 2, 1], n_init, [1, 3, 3, 3]);
        let maps = builder.conv("decoder.output", n_hid, 6, 1);
        Self { sizes, parameters: builder.0.parameters, stem, encoder, logits, codes, decoder, maps }
    }

    /// Values of all parameters.
    pub fn length(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.offset + last.length())
    }

    /// The encoder's parameters.
    pub fn encoder(&self) -> &[Parameter] {
        self.parameters.split_at(self.parameters.partition_point(|p| p.offset < self.codes.w)).0
    }

    /// The decoder's parameters.
    pub fn decoder(&self) -> &[Parameter] {
        self.parameters.split_at(self.parameters.partition_point(|p| p.offset < self.codes.w)).1
    }

    /// Operations of an update for each token, counted as plain convolutions: forward, and twice as many backward.
    pub fn training_flops(&self) -> u64 {
        3 * (self.encoder_flops() + self.decoding_flops())
    }

    /// Operations of decoding for each token, counted as plain convolutions.
    pub fn decoding_flops(&self) -> u64 {
        self.codes.flops() + self.decoder_flops()
    }

    /// Values of the layers as updates use them, forward and backward.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn packed_values(&self) -> usize {
        2 * (self.encoder_values() + self.decoder_values())
    }

    /// Values of the encoder's layers as it encodes.
    pub(super) fn encoder_values(&self) -> usize {
        values(&self.encoder) + packed(&self.stem) + packed(&self.logits)
    }

    /// Values of the decoder's layers as it decodes.
    pub(super) fn decoder_values(&self) -> usize {
        values(&self.decoder) + packed(&self.codes) + packed(&self.maps)
    }

    /// Operations of the encoder for each token.
    pub(super) fn encoder_flops(&self) -> u64 {
        let blocks = flops(&self.encoder, |group| 64 >> (2 * group));
        64 * self.stem.flops() + blocks + self.logits.flops()
    }

    /// Operations of the decoder for each token, but for its first layer.
    pub(super) fn decoder_flops(&self) -> u64 {
        flops(&self.decoder, |group| 1 << (2 * group)) + 64 * self.maps.flops()
    }

    /// Factor of the residual paths: 1/n_layers² (appendix A.1).
    pub(super) fn post_gain(&self) -> f32 {
        let layers = (4 * self.sizes.blocks_per_group) as f32;
        1.0 / (layers * layers)
    }

    /// Multiplies the gradients of each block's last convolution by the factor that its kernel contains.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn apply_gain(&self, gradients: &mut [f32]) {
        let gain = self.post_gain();
        for block in self.encoder.iter().chain(&self.decoder).flatten() {
            let last = &block.res[3];
            for gradient in &mut gradients[last.w..last.b + last.n_out] {
                *gradient *= gain;
            }
        }
    }
}

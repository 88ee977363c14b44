//! Times each kernel on one thread, at the sizes of the dVAE of configs/emoji-128.json and of the prior of configs/bench.json.
//!
//! `cargo bench -p dalle-kernels --bench kernels [-- FILTER]`. Items are the multiplications and additions of the plain operation, so
//! Winograd's kernels can exceed the CPU's peak.

use std::fmt;

use dalle_kernels::adamw::{AdamW, AdamWUpdate, sum_of_squares};
use dalle_kernels::conv_kernel::ConvKernel;
use dalle_kernels::finish::Finish;
use dalle_kernels::formats::{F0_6_10, F1_6_9, Stored, decode, encode};
use dalle_kernels::gradient::{KernelGradient, PointwiseGradient};
use dalle_kernels::grid::{Grid, zeros};
use dalle_kernels::matrix::{Outer, Packed, Product, Rows, Then};
use dalle_kernels::outer::{OuterGradient, OuterMemory, OuterPointwiseGradient};
use dalle_kernels::pointwise::{Pointwise, PointwiseKernel};
use dalle_kernels::rows::{CrossEntropy, Gelu, GeluGradient, Norm, NormGradient, Sum};
use dalle_kernels::simd::Processor;
use dalle_kernels::skinny::{Matrix, Skinny, tiles};
use dalle_kernels::stem::{Stem, StemGradient, StemKernel};
use dalle_kernels::storage::Storage;
use dalle_kernels::winograd::{Convolution, WinogradKernel};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

fn main() {
    divan::main();
}

fn values(length: usize) -> Vec<f32> {
    (0..length).map(|i| (i * 7919 % 1000) as f32 * 1e-3 - 0.5).collect()
}

/// A convolution of square maps.
#[derive(Clone, Copy)]
struct Maps {
    side: usize,
    n_in: usize,
    n_out: usize,
}

impl fmt::Display for Maps {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}², {} → {}", self.side, self.n_in, self.n_out)
    }
}

impl Maps {
    const fn new(side: usize, n_in: usize, n_out: usize) -> Self {
        Self { side, n_in, n_out }
    }

    fn grid(&self) -> Grid {
        Grid::new(1, self.side, self.side, 2)
    }

    /// Operations, for kernels of `taps` values.
    fn operations(&self, taps: usize) -> ItemsCount {
        ItemsCount::new(2 * self.side * self.side * self.n_in * self.n_out * taps)
    }
}

/// The 3×3 convolutions of a block at each resolution.
const SQUARE: [Maps; 8] = [
    Maps::new(128, 24, 6),
    Maps::new(128, 6, 24),
    Maps::new(64, 48, 12),
    Maps::new(64, 12, 48),
    Maps::new(32, 96, 24),
    Maps::new(32, 24, 96),
    Maps::new(16, 192, 48),
    Maps::new(16, 48, 192),
];
/// The 1×1 convolutions.
const POINTWISE: [Maps; 5] = [
    Maps::new(128, 6, 24),
    Maps::new(64, 12, 48),
    Maps::new(32, 24, 96),
    Maps::new(16, 48, 192),
    Maps::new(16, 192, 1024),
];

#[divan::bench(args = SQUARE)]
fn convolution(bencher: Bencher, maps: Maps) {
    let grid = &maps.grid();
    let (x, mut y, mut scratch) = (grid.map(maps.n_in), grid.map(maps.n_out), zeros(0));
    let mut kernel = WinogradKernel::zeros(maps.n_out, maps.n_in);
    kernel.set(&values(maps.n_in * maps.n_out * 9), 1.0);
    let (bias, processor) = (values(maps.n_out), Processor::detect());
    bencher.counter(maps.operations(9)).bench_local(|| {
        let (finish, x, kernel) = (Finish::Relu(&bias), grid.view(&x), &kernel);
        processor.run(Convolution { grid, kernel, x, relu: false, finish, y: &mut y, scratch: &mut scratch });
    });
}

#[divan::bench(args = SQUARE)]
fn convolution_gradient(bencher: Bencher, maps: Maps) {
    let grid = &maps.grid();
    let (x, dy, mut scratch) = (grid.map(maps.n_in), grid.map(maps.n_out), zeros(0));
    let (mut dw, processor) = (values(maps.n_in * maps.n_out * 9), Processor::detect());
    bencher.counter(maps.operations(9)).bench_local(|| {
        let (x, dw, n_in) = (grid.view(&x), &mut dw[..], maps.n_in);
        processor.run(KernelGradient { grid, dy: &dy, x, relu: false, dw, n_in, scratch: &mut scratch });
    });
}

#[divan::bench(args = SQUARE)]
fn convolution_gradient_by_outer_products(bencher: Bencher, maps: Maps) {
    let grid = &maps.grid();
    let (x, dy, mut memory) = (grid.map(maps.n_in), grid.map(maps.n_out), OuterMemory::default());
    let (mut dw, processor) = (values(maps.n_in * maps.n_out * 9), Processor::detect());
    bencher.counter(maps.operations(9)).bench_local(|| {
        let (x, dw, n_in) = (grid.view(&x), &mut dw[..], maps.n_in);
        processor.run(OuterGradient { grid, dy: &dy, x, relu: false, dw, n_in, memory: &mut memory });
    });
}

#[divan::bench(args = POINTWISE)]
fn pointwise(bencher: Bencher, maps: Maps) {
    let grid = &maps.grid();
    let (x, mut y) = (grid.map(maps.n_in), grid.map(maps.n_out));
    let mut kernel = PointwiseKernel::zeros(maps.n_out, maps.n_in);
    kernel.set(&values(maps.n_in * maps.n_out), 1.0);
    let (bias, processor) = (values(maps.n_out), Processor::detect());
    bencher.counter(maps.operations(1)).bench_local(|| {
        let finish = Finish::Relu(&bias);
        processor.run(Pointwise { grid, kernel: &kernel, x: &x, relu: false, finish, y: &mut y });
    });
}

#[divan::bench(args = POINTWISE)]
fn pointwise_gradient(bencher: Bencher, maps: Maps) {
    let grid = &maps.grid();
    let (x, dy) = (grid.map(maps.n_in), grid.map(maps.n_out));
    let (mut dw, processor) = (values(maps.n_in * maps.n_out), Processor::detect());
    bencher.counter(maps.operations(1)).bench_local(|| {
        let (dw, n_in) = (&mut dw[..], maps.n_in);
        processor.run(PointwiseGradient { grid, dy: &dy, x: &x, relu: false, dw, n_in });
    });
}

#[divan::bench(args = POINTWISE)]
fn pointwise_gradient_by_outer_products(bencher: Bencher, maps: Maps) {
    let grid = &maps.grid();
    let (x, dy, mut memory) = (grid.map(maps.n_in), grid.map(maps.n_out), OuterMemory::default());
    let (mut dw, processor) = (values(maps.n_in * maps.n_out), Processor::detect());
    bencher.counter(maps.operations(1)).bench_local(|| {
        let (dw, n_in, memory) = (&mut dw[..], maps.n_in, &mut memory);
        processor.run(OuterPointwiseGradient { grid, dy: &dy, x: &x, relu: false, dw, n_in, memory });
    });
}

#[divan::bench]
fn stem(bencher: Bencher) {
    let maps = Maps::new(128, 3, 24);
    let grid = &maps.grid();
    let (x, mut y) = (grid.map(3), grid.map(24));
    let mut kernel = StemKernel::zeros(24, 3);
    kernel.set(&values(24 * 147));
    let (bias, processor) = (values(24), Processor::detect());
    bencher.counter(maps.operations(49)).bench_local(|| {
        processor.run(Stem { grid, kernel: &kernel, bias: &bias, x: &x, y: &mut y });
    });
}

#[divan::bench]
fn stem_gradient(bencher: Bencher) {
    let maps = Maps::new(128, 3, 24);
    let grid = &maps.grid();
    let (x, dy) = (grid.map(3), grid.map(24));
    let (mut dw, processor) = (values(24 * 147), Processor::detect());
    bencher.counter(maps.operations(49)).bench_local(|| {
        processor.run(StemGradient { grid, dy: &dy, x: &x, dw: &mut dw, n_in: 3 });
    });
}

/// Rows of slots times a matrix.
#[derive(Clone, Copy)]
struct Linear {
    rows: usize,
    n_in: usize,
    n_out: usize,
}

impl fmt::Display for Linear {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} rows, {} → {}", self.rows, self.n_in, self.n_out)
    }
}

impl Linear {
    const fn new(rows: usize, n_in: usize, n_out: usize) -> Self {
        Self { rows, n_in, n_out }
    }

    fn operations(&self) -> ItemsCount {
        ItemsCount::new(2 * self.rows * self.n_in * self.n_out)
    }
}

const LINEAR: [Linear; 6] = [
    Linear::new(288, 128, 384),
    Linear::new(288, 512, 128),
    Linear::new(1280, 512, 512),
    Linear::new(1280, 512, 2048),
    Linear::new(1280, 2048, 512),
    Linear::new(1024, 512, 8192),
];

#[divan::bench(args = LINEAR)]
fn product(bencher: Bencher, linear: Linear) {
    let Linear { rows, n_in, n_out } = linear;
    let (x, mut y) = (values(rows * n_in), zeros(rows * n_out));
    let mut packed = Packed::zeros(n_in, n_out);
    packed.set(&values(n_in * n_out));
    let processor = Processor::detect();
    bencher.counter(linear.operations()).bench_local(|| {
        let a = Rows { data: &x, first: 0, stride: n_in };
        processor.run(Product { a, rows, b: &packed, then: Then::Set(&[]), y: &mut y, stride: n_out });
    });
}

#[divan::bench(args = LINEAR)]
fn product_gradient(bencher: Bencher, linear: Linear) {
    let Linear { rows, n_in, n_out } = linear;
    let (x, mut dy, mut dw) = (values(rows * n_in), zeros(rows * n_out), zeros(n_in * n_out));
    dy.copy_from_slice(&values(rows * n_out));
    let processor = Processor::detect();
    bencher.counter(linear.operations()).bench_local(|| {
        let a = Rows { data: &x, first: 0, stride: n_in };
        let b = Rows { data: &dy, first: 0, stride: n_out };
        processor.run(Outer { a, m: n_in, b, n: n_out, rows, c: &mut dw, stride: n_out });
    });
}

/// The largest matrix of a layer, larger than the caches of one core.
#[divan::bench(args = [1, 4, 16], consts = [0, 1, 2])]
fn skinny<const STORAGE: usize>(bencher: Bencher, rows: usize) {
    let storage = [Storage::F32, Storage::Bf16, Storage::F16][STORAGE];
    let (k, n) = (512, 8192);
    let w = Matrix::new(&values(k * n), k, n, storage);
    let (a, mut y) = (values(tiles(rows, k)), zeros(tiles(rows, n)));
    let processor = Processor::detect();
    bencher.counter(BytesCount::new(w.bytes())).bench_local(|| {
        processor.run(Skinny { a: &a, rows, w: &w, first: 0, y: &mut y });
    });
}

/// 256 MB, as fast as one thread reads memory.
#[divan::bench(sample_count = 20)]
fn reading(bencher: Bencher) {
    let (x, processor) = (values(1 << 26), Processor::detect());
    bencher.counter(BytesCount::of_slice(&x)).bench_local(|| processor.run(Sum { x: &x }));
}

const ROWS: usize = 256;
const WIDTH: usize = 512;

#[divan::bench]
fn norm(bencher: Bencher) {
    let (x, gamma, beta) = (values(ROWS * WIDTH), values(WIDTH), values(WIDTH));
    let (mut statistics, mut y, processor) = (vec![[0.0; 2]; ROWS], zeros(ROWS * WIDTH), Processor::detect());
    bencher.counter(BytesCount::of_slice(&x)).bench_local(|| {
        let (gamma, beta) = (&gamma, &beta);
        processor.run(Norm { x: &x, gamma, beta, statistics: &mut statistics, y: &mut y });
    });
}

#[divan::bench]
fn norm_gradient(bencher: Bencher) {
    let (x, gamma, dy) = (values(ROWS * WIDTH), values(WIDTH), values(ROWS * WIDTH));
    let (statistics, mut dx, processor) = (vec![[0.0, 1.0]; ROWS], zeros(ROWS * WIDTH), Processor::detect());
    let [mut d_gamma, mut d_beta] = [0.0; 2].map(|zero| vec![zero; WIDTH]);
    bencher.counter(BytesCount::of_slice(&x)).bench_local(|| {
        let (dx, d_gamma, d_beta) = (&mut dx[..], &mut d_gamma[..], &mut d_beta[..]);
        processor.run(NormGradient {
            x: &x,
            gamma: &gamma,
            statistics: &statistics,
            dy: &dy,
            dx,
            d_gamma,
            d_beta,
        });
    });
}

#[divan::bench]
fn gelu(bencher: Bencher) {
    let (x, mut y, processor) = (values(ROWS * WIDTH), zeros(ROWS * WIDTH), Processor::detect());
    bencher.counter(BytesCount::of_slice(&x)).bench_local(|| processor.run(Gelu { x: &x, y: &mut y }));
}

#[divan::bench]
fn gelu_gradient(bencher: Bencher) {
    let (mut x, mut dy, processor) = (values(ROWS * WIDTH), values(ROWS * WIDTH), Processor::detect());
    let bytes = BytesCount::of_slice(&x);
    bencher.counter(bytes).bench_local(|| processor.run(GeluGradient { x: &mut x, dy: &mut dy }));
}

#[divan::bench]
fn cross_entropy(bencher: Bencher) {
    let (mut logits, processor) = (values(8192), Processor::detect());
    bencher.counter(BytesCount::of_slice(&logits)).bench_local(|| {
        processor.run(CrossEntropy { logits: &mut logits, classes: 8192, target: 7, weight: 1.0 })
    });
}

/// An update of 16 million weights, on all threads.
#[divan::bench(types = [(f32, f32), (F1_6_9, F0_6_10)], sample_count = 20)]
fn adamw<T: Moments>(bencher: Bencher) {
    let (gradient, mut weight, mut average) = (values(1 << 24), values(1 << 24), values(1 << 24));
    let (mut mean, mut variance) = (vec![T::Mean::default(); 1 << 24], vec![T::Variance::default(); 1 << 24]);
    let adamw = AdamW {
        beta1: 0.9,
        beta2: 0.96,
        epsilon: 1e-8,
        update: 7,
        learning_rate: 1e-4,
        weight_decay: 0.045,
        clip: 1.0,
        max_variance: 5.0,
        ewma: 0.999,
    };
    // Gradient, weights and average in f32, of which two are written, and the moments.
    let bytes = 5 * size_of_val(&gradient[..]) + 2 * size_of_val(&mean[..]) + 2 * size_of_val(&variance[..]);
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        let (weight, mean) = (&mut weight[..], &mut mean[..]);
        let (variance, average) = (&mut variance[..], &mut average[..]);
        AdamWUpdate { adamw, gradient: &gradient, weight, mean, variance, average }.run();
    });
}

/// The types of mean and variance.
trait Moments {
    type Mean: Stored;
    type Variance: Stored;
}

impl<M: Stored, V: Stored> Moments for (M, V) {
    type Mean = M;
    type Variance = V;
}

/// Values in 16 bits that the caches hold.
#[divan::bench(types = [F1_6_9, F0_6_10])]
fn encoding<F: Stored>(bencher: Bencher) {
    let (values, mut codes) = (values(1 << 16), vec![F::default(); 1 << 16]);
    bencher.counter(ItemsCount::new(values.len())).bench_local(|| encode(&values, &mut codes));
}

#[divan::bench(types = [F1_6_9, F0_6_10])]
fn decoding<F: Stored>(bencher: Bencher) {
    let (codes, mut values) = (vec![F::default(); 1 << 16], values(1 << 16));
    bencher.counter(ItemsCount::new(values.len())).bench_local(|| decode(&codes, &mut values));
}

/// The norm of 16 million gradients, on all threads.
#[divan::bench(sample_count = 20)]
fn squares(bencher: Bencher) {
    let gradient = values(1 << 24);
    bencher.counter(BytesCount::of_slice(&gradient)).bench_local(|| sum_of_squares(&gradient));
}

//! Prints how fast each kernel runs on one thread at a dVAE's sizes, and a whole update on all threads.
//!
//! `cargo bench -p dalle-kernels -- [n_hid] [image side]`, 24 and 128 by default. Times are the best of several runs; GFLOP/s
//! count the multiplications and additions of the plain convolution, so Winograd's kernels can exceed the processor's peak.

use std::time::Instant;

use dalle_kernels::adamw::{AdamW, AdamWUpdate};
use dalle_kernels::dvae::{DvaeSizes, DvaeUpdate, ImageNoise};
use dalle_kernels::finish::Finish;
use dalle_kernels::formats::{F0_6_10, F1_6_9, Stored, decode, encode};
use dalle_kernels::gradient::{KernelGradient, PointwiseGradient};
use dalle_kernels::grid::{Grid, zeros};
use dalle_kernels::outer::{self, OuterGradient, OuterPointwiseGradient};
use dalle_kernels::pointwise::{self, Pointwise};
use dalle_kernels::simd::Processor;
use dalle_kernels::stem::{self, Stem, StemGradient};
use dalle_kernels::winograd::{self, Convolution};

/// Seconds of one run: the best of several.
fn seconds(mut run: impl FnMut()) -> f64 {
    run();
    let mut best = f64::MAX;
    for _ in 0..5 {
        let (begun, mut runs) = (Instant::now(), 0);
        while begun.elapsed().as_secs_f64() < 0.02 {
            run();
            runs += 1;
        }
        best = best.min(begun.elapsed().as_secs_f64() / f64::from(runs));
    }
    best
}

fn report(name: &str, flops: f64, seconds: f64) {
    println!("{name:44} {:10.1} µs {:8.1} GFLOP/s", seconds * 1e6, flops / seconds / 1e9);
}

fn values(length: usize) -> Vec<f32> {
    (0..length).map(|i| (i * 7919 % 1000) as f32 * 1e-3 - 0.5).collect()
}

/// Conversions to and from a format, values that fit the caches.
fn format<F: Stored>(name: &str) {
    let values = values(1 << 16);
    let (mut codes, mut back) = (vec![F::default(); values.len()], vec![0.0; values.len()]);
    let rate = |seconds: f64| values.len() as f64 / seconds / 1e9;
    let encoding = rate(seconds(|| encode(&values, &mut codes)));
    let decoding = rate(seconds(|| decode(&codes, &mut back)));
    println!("{name:44} {encoding:10.2} G values/s encoded, {decoding:.2} decoded");
}

/// An update of a million parameters.
fn adamw<M: Stored, V: Stored>(processor: Processor, name: &str) {
    let length = 1 << 20;
    let gradient = values(length);
    let (mut weight, mut average) = (gradient.clone(), gradient.clone());
    let (mut mean, mut variance) = (vec![M::default(); length], vec![V::default(); length]);
    let adamw = AdamW {
        beta1: 0.9,
        beta2: 0.96,
        epsilon: 1e-8,
        update: 10,
        learning_rate: 1e-6,
        weight_decay: 0.045,
        clip: 1.0,
        max_variance: 5.0,
        ewma: 0.9996,
    };
    let time = seconds(|| {
        processor.run(AdamWUpdate {
            adamw,
            gradient: &gradient,
            weight: &mut weight,
            mean: &mut mean,
            variance: &mut variance,
            average: &mut average,
        });
    });
    println!("{name:44} {:10.2} G values/s", length as f64 / time / 1e9);
}

fn square(processor: Processor, grid: &Grid, n_in: usize, n_out: usize) {
    let name = |what: &str| format!("{what}, {}², {n_in} → {n_out}", grid.width);
    let flops = (grid.width * grid.height * n_in * n_out * 18) as f64;
    let (x, mut y, mut scratch) = (grid.map(n_in), grid.map(n_out), zeros(0));
    let mut kernel = winograd::WinogradKernel::zeros(n_out, n_in);
    kernel.set(&values(n_in * n_out * 9), 1.0);
    let bias = values(n_out);
    let time = seconds(|| {
        let finish = Finish::Relu(&bias);
        let (x, kernel) = (grid.view(&x), &kernel);
        processor.run(Convolution { grid, kernel, x, relu: false, finish, y: &mut y, scratch: &mut scratch });
    });
    report(&name("3×3"), flops, time);
    let mut dw = values(n_in * n_out * 9);
    let time = seconds(|| {
        let (x, dw) = (grid.view(&x), &mut dw[..]);
        processor.run(KernelGradient { grid, dy: &y, x, relu: false, dw, n_in, scratch: &mut scratch });
    });
    report(&name("3×3 kernel gradient"), flops, time);
    let mut memory = outer::OuterMemory::default();
    let time = seconds(|| {
        let (x, dw) = (grid.view(&x), &mut dw[..]);
        processor.run(OuterGradient { grid, dy: &y, x, relu: false, dw, n_in, memory: &mut memory });
    });
    report(&name("3×3 kernel gradient, outer products"), flops, time);
}

fn point(processor: Processor, grid: &Grid, n_in: usize, n_out: usize) {
    let name = |what: &str| format!("{what}, {}², {n_in} → {n_out}", grid.width);
    let flops = (grid.width * grid.height * n_in * n_out * 2) as f64;
    let (x, mut y) = (grid.map(n_in), grid.map(n_out));
    let mut kernel = pointwise::PointwiseKernel::zeros(n_out, n_in);
    kernel.set(&values(n_in * n_out), 1.0);
    let bias = values(n_out);
    let time = seconds(|| {
        let finish = Finish::Relu(&bias);
        processor.run(Pointwise { grid, kernel: &kernel, x: &x, relu: false, finish, y: &mut y });
    });
    report(&name("1×1"), flops, time);
    let mut dw = values(n_in * n_out);
    let time = seconds(|| {
        processor.run(PointwiseGradient { grid, dy: &y, x: &x, relu: false, dw: &mut dw, n_in });
    });
    report(&name("1×1 kernel gradient"), flops, time);
    let mut memory = outer::OuterMemory::default();
    let time = seconds(|| {
        let (dw, memory) = (&mut dw[..], &mut memory);
        processor.run(OuterPointwiseGradient { grid, dy: &y, x: &x, relu: false, dw, n_in, memory });
    });
    report(&name("1×1 kernel gradient, outer products"), flops, time);
}

fn stem(processor: Processor, grid: &Grid, n_out: usize) {
    let flops = (grid.width * grid.height * 3 * n_out * 98) as f64;
    let (x, mut y) = (grid.map(3), grid.map(n_out));
    let mut kernel = stem::StemKernel::zeros(n_out, 3);
    kernel.set(&values(n_out * 147));
    let bias = values(n_out);
    let time = seconds(|| {
        processor.run(Stem { grid, kernel: &kernel, bias: &bias, x: &x, y: &mut y });
    });
    report(&format!("7×7, {}², 3 → {n_out}", grid.width), flops, time);
    let mut dw = values(n_out * 147);
    let time = seconds(|| processor.run(StemGradient { grid, dy: &y, x: &x, dw: &mut dw, n_in: 3 }));
    report(&format!("7×7 kernel gradient, {}², 3 → {n_out}", grid.width), flops, time);
}

fn update(n_hid: usize, side: usize) {
    const BATCH: usize = 8;
    let sizes = DvaeSizes { n_hid, n_init: 64, blocks_per_group: 2, vocab: 1024 };
    let mut update = DvaeUpdate::new(sizes, side, side);
    let parameters: Vec<f32> = values(update.network().length()).iter().map(|value| 0.05 * value).collect();
    let images: Vec<f32> = values(BATCH * 3 * side * side).iter().map(|value| 0.5 + 0.5 * value).collect();
    let mut gradients = vec![0.0; parameters.len()];
    let time = seconds(|| {
        update.run(&parameters, &images, ImageNoise::Keys(&[0; BATCH]), 0.5, 2.0, &mut gradients);
    });
    println!("losses and gradients of {BATCH} images: {:.1} ms", time * 1e3);
}

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let n_hid: usize = numbers.next().unwrap_or(24);
    let side: usize = numbers.next().unwrap_or(128);
    let processor = Processor::detect();
    println!("n_hid {n_hid}, {side}×{side} pixels, {processor:?}");
    format::<F1_6_9>("1-6-9");
    format::<F0_6_10>("0-6-10");
    adamw::<f32, f32>(processor, "AdamW, moments in 32 bits");
    adamw::<F1_6_9, F0_6_10>(processor, "AdamW, moments in 16 bits");
    for level in 0..4 {
        let (grid, wide) = (Grid::new(1, side >> level, side >> level, 2), n_hid << level);
        let hidden = wide / 4;
        if level == 0 {
            stem(processor, &grid, n_hid);
        }
        for (n_in, n_out) in [(wide, hidden), (hidden, hidden), (hidden, wide)] {
            square(processor, &grid, n_in, n_out);
        }
        point(processor, &grid, wide, hidden);
        point(processor, &grid, hidden, wide);
        if level == 3 {
            point(processor, &grid, wide, 1024);
        }
    }
    update(n_hid, side);
}

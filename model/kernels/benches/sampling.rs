//! Prints how long a step of sampling takes at the sizes of configs/bench.json, and how fast this machine reads memory.
//!
//! `cargo bench -p dalle-kernels --bench sampling -- [layers] [heads] [head]`, 12, 8 and 64 by default.

use std::hint::black_box;
use std::time::Instant;

use dalle_kernels::prior::{Cache, PriorSizes, Sampler};
use dalle_kernels::rows::Sum;
use dalle_kernels::simd::Processor;
use dalle_kernels::storage::Storage;
use rayon::prelude::*;

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Bytes per second that all threads read together.
fn bandwidth() -> f64 {
    let values = vec![1.0_f32; 1 << 26];
    let processor = Processor::detect();
    let sum = |part: &[f32]| processor.run(Sum { x: part });
    let times = (0..9).map(|_| {
        let begun = Instant::now();
        black_box(values.par_chunks(1 << 16).map(sum).sum::<f32>());
        begun.elapsed().as_secs_f64()
    });
    size_of_val(values.as_slice()) as f64 / median(times.collect())
}

fn main() {
    let mut sizes = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let mut size = |default| sizes.next().unwrap_or(default);
    let sizes = PriorSizes {
        layers: size(12),
        heads: size(8),
        head: size(64),
        conv_kernel: 11,
        text: size(256),
        grid: size(32),
        text_vocab: 1000,
        image_vocab: size(8192),
    };
    println!("reading: {:.1} GB/s", bandwidth() / 1e9);
    for storage in [Storage::F32, Storage::Bf16, Storage::F16] {
        let mut state = 1_u32;
        let read = |parameter: &dalle_kernels::parameters::Parameter| {
            let next = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state as f32 / u32::MAX as f32 - 0.5) * 0.1
            };
            Ok::<_, ()>((0..parameter.length()).map(next).collect())
        };
        let sampler = Sampler::new(sizes, storage, read).expect("reading does not fail");
        let begun = Instant::now();
        let (cache, _) = sampler.prefill(&[1, 2, 3], &vec![7; 4 * sizes.grid]);
        println!("{storage:?}: prefill {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
        for (captions, samples) in [(1, 1), (4, 1), (1, 4), (16, 1), (1, 16)] {
            let mut caches: Vec<Cache> =
                (0..captions).map(|_| cache.clone().repeat(samples, &sizes)).collect();
            let tokens = vec![5; captions * samples];
            let mut times = Vec::new();
            for _ in 0..100 {
                let mut caches: Vec<&mut Cache> = caches.iter_mut().collect();
                let begun = Instant::now();
                black_box(sampler.step(&mut caches, &tokens));
                times.push(begun.elapsed().as_secs_f64());
            }
            times.sort_by(f64::total_cmp);
            let best = times[0];
            let bytes = sampler.step_bytes() + captions * cache.bytes();
            println!(
                "  {captions} captions of {samples}: {:.3} ms (best {:.3}), {:.1} GB/s at best",
                times[50] * 1e3,
                best * 1e3,
                bytes as f64 / best / 1e9
            );
        }
    }
}

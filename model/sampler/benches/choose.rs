//! Times the choice of a token from the logits of 8192: what sampling does for each row besides the prior.
//!
//! `cargo bench -p dalle-sampler`.

use dalle_sampler::choose;
use dalle_shared::SamplingSettings;
use divan::Bencher;

fn main() {
    divan::main();
}

/// Top-k and top-p, 0 for none.
#[divan::bench(args = [(0, 0.0), (256, 0.0), (0, 0.9), (256, 0.9)])]
fn choose_of_8192(bencher: Bencher, (top_k, top_p): (usize, f32)) {
    let logits: Vec<f32> = (0..8192).map(|i| (i * 7919 % 8192) as f32 * 1e-3).collect();
    let (top_k, top_p) = ((top_k > 0).then_some(top_k), (top_p > 0.0).then_some(top_p));
    let settings = SamplingSettings { temperature: 1.0, top_k, top_p, guidance: 1.0 };
    bencher.bench_local(|| choose(divan::black_box(&logits), &settings, 0.5));
}

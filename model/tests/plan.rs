//! What a model costs, against the paper's and the derived figures.

mod common;

use common::config;
use dalle_model::plan::Plan;
use dalle_model::precision::Precision;

#[test]
fn the_papers_model_costs_what_it_costs() {
    let config = config("paper-12b");
    let plan = Plan::new(&config);
    assert_eq!(plan.matrices, 64 * 12 * 3968 * 3968);
    // Beside the matrices, in f32 always: biases and gains, embeddings of tokens and places, and the two heads.
    let d = 3968;
    let embeddings = (16384 + 256 + 256 + 8192 + 32 + 32) * d;
    let rest = (64 * 13 + 2) * d + embeddings + (d + 1) * (16384 + 1 + 8192);
    assert_eq!(plan.prior, plan.matrices + rest);
    assert_eq!(plan.prior_bytes(Precision::Bf16), 2 * plan.matrices + 4 * rest);
    // Two bytes each for keys and values: 256 places a layer for the text; for the image 47 · 33 + 16 · 1024 + 166.
    assert_eq!(plan.cache_bytes(Precision::Bf16, 1, 0), 64 * 256 * 2 * 3968 * 2);
    assert_eq!(plan.cache_bytes(Precision::Bf16, 0, 1), (47 * 33 + 16 * 1024 + 166) * 2 * 3968 * 2);
    // The released dVAE has 53.8 and 43.8 million parameters, and a decode takes 308 GFLOP.
    assert_eq!((plan.encoder / 100_000, plan.decoder / 100_000), (537, 438));
    assert_eq!((plan.decode_flops as f64 / 1e9).round(), 308.0);
}

#[test]
fn a_small_model_costs_little() {
    let plan = Plan::new(&config("tiny"));
    assert!(plan.sampling(Precision::F32, 1, 1) < 1 << 20);
    assert!(plan.training(8) < 64 << 20);
    assert!(plan.training(8) > plan.training(1));
}

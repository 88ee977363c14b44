//! Hyper-parameters, compared with the papers: appendices A.2 and B.2, and tables 18 and 20 of CLIP's paper.

use dalle_train::clip_schedule::ClipSchedule;
use dalle_train::dvae_schedule::DvaeSchedule;
use dalle_train::optimizer::AdamWConfig;
use dalle_train::prior_schedule::PriorSchedule;
use dalle_train::schedule::{CosineSchedule, WarmupCosine};

#[test]
fn stage_1_is_trained_as_in_appendix_a_2() {
    let DvaeSchedule { batch, beta, tau, learning_rate, .. } = DvaeSchedule::PAPER;
    assert_eq!((batch, DvaeSchedule::PAPER_STEPS), (512, 3_000_000));
    let cosine = |from, to, updates| CosineSchedule { from, to, updates };
    assert_eq!(beta, cosine(0.0, 6.6, 5_000));
    assert_eq!(tau, cosine(1.0, 0.0625, 150_000));
    assert_eq!(learning_rate, cosine(1e-4, 1.25e-6, 1_200_000));
    let AdamWConfig { beta1, beta2, epsilon, weight_decay, clip, ewma } = AdamWConfig::DVAE;
    assert_eq!((beta1, beta2, epsilon, weight_decay, clip, ewma), (0.9, 0.999, 1e-8, 1e-4, None, 0.999));
}

#[test]
fn stage_2_is_trained_as_in_appendix_b_2() {
    let PriorSchedule { batch, learning_rate, bpe_dropout, caption_dropout, image_noise, .. } =
        PriorSchedule::PAPER;
    assert_eq!((batch, PriorSchedule::PAPER_STEPS), (1024, 430_000));
    assert_eq!(learning_rate, WarmupCosine { peak: 4.5e-4, warmup: 5_000, updates: 430_000 });
    assert_eq!((bpe_dropout, caption_dropout, image_noise), (0.1, 0.0, 0.0));
    let AdamWConfig { beta1, beta2, epsilon, weight_decay, clip, ewma } = AdamWConfig::PRIOR;
    assert_eq!((beta1, beta2, epsilon, weight_decay, clip), (0.9, 0.96, 1e-8, 0.045, Some(4.0)));
    assert!((ewma.powi(25) - 0.99).abs() < 1e-4, "0.99 for every 25 updates: {ewma}");
}

#[test]
fn clip_is_trained_as_in_its_own_paper() {
    let ClipSchedule { batch, learning_rate, .. } = ClipSchedule::PAPER;
    // 32 epochs of 400 million pairs.
    let updates = 32.0 * 400e6 / batch as f64;
    assert!((ClipSchedule::PAPER_STEPS as f64 / updates - 1.0).abs() < 0.01, "{updates}");
    assert_eq!(batch, 32_768);
    assert_eq!((learning_rate.peak, learning_rate.warmup), (5e-4, 2_000));
    let AdamWConfig { beta1, beta2, epsilon, weight_decay, .. } = AdamWConfig::CLIP;
    assert_eq!((beta1, beta2, epsilon, weight_decay), (0.9, 0.98, 1e-6, 0.2));
}

//! Samples a token from logits: temperature, top-k, top-p, then inverse transform sampling.

use dalle_shared::SamplingSettings;

/// The token that the random number `uniform` on `[0, 1)` selects. Ties go to the smaller id. `None` if a logit is NaN or +∞, or
/// all are −∞.
pub fn choose(logits: &[f32], settings: &SamplingSettings, uniform: f64) -> Option<usize> {
    kept(logits, settings).map(|kept| pick(&kept, uniform))
}

/// The tokens that the settings leave, in the order of their ids, with weights that are proportional to their probabilities. There is
/// at least one, and one of positive weight. `None` as [`choose`].
pub(crate) fn kept(logits: &[f32], settings: &SamplingSettings) -> Option<Vec<(usize, f64)>> {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !best.is_finite() || logits.iter().any(|logit| logit.is_nan()) {
        return None;
    }
    if settings.temperature == 0.0 {
        return logits.iter().position(|&logit| logit == best).map(|index| vec![(index, 1.0)]);
    }
    let weight = |logit: f32| ((f64::from(logit) - f64::from(best)) / f64::from(settings.temperature)).exp();
    let mut kept: Vec<(usize, f64)> = logits.iter().map(|&logit| weight(logit)).enumerate().collect();
    filter(&mut kept, settings);
    Some(kept)
}

/// Inverse transform sampling.
fn pick(kept: &[(usize, f64)], uniform: f64) -> usize {
    let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
    let mut left = uniform * total;
    let picked = kept.iter().find(|(_, weight)| {
        left -= weight;
        left < 0.0
    });
    // Rounding can leave a remainder after the last weight was subtracted.
    picked
        .or_else(|| kept.iter().rfind(|(_, weight)| *weight > 0.0))
        .map(|(index, _)| *index)
        .expect("the most likely token has a positive weight")
}

/// Keeps what top-k and top-p keep of tokens and their weights, in the order of the tokens.
fn filter(kept: &mut Vec<(usize, f64)>, settings: &SamplingSettings) {
    // No two tokens are equal, so an unstable order is the stable one.
    let descending = |(i, a): &(usize, f64), (j, b): &(usize, f64)| b.total_cmp(a).then(i.cmp(j));
    let k = settings.top_k.map_or(kept.len(), |k| k.max(1));
    if k < kept.len() {
        // The likeliest first, in any order: sorting all takes several times as long.
        kept.select_nth_unstable_by(k - 1, descending);
        kept.truncate(k);
    } else if settings.top_p.is_none() {
        return;
    }
    if let Some(p) = settings.top_p {
        kept.sort_unstable_by(descending);
        kept.truncate(nucleus(kept, f64::from(p)));
    }
    kept.sort_unstable_by_key(|(index, _)| *index);
}

/// Length of the shortest prefix of `sorted` (weights in descending order) whose sum is at least `p` of the total.
fn nucleus(sorted: &[(usize, f64)], p: f64) -> usize {
    let target = p * sorted.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut sum = 0.0;
    sorted
        .iter()
        .position(|(_, weight)| {
            sum += weight;
            sum >= target
        })
        .map_or(sorted.len(), |index| index + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(temperature: f32, top_k: Option<usize>, top_p: Option<f32>) -> SamplingSettings {
        SamplingSettings { temperature, top_k, top_p, guidance: 1.0 }
    }

    /// How often each of `n` tokens is picked by 10,000 evenly spread uniforms.
    fn histogram(logits: &[f32], settings: &SamplingSettings) -> Vec<f64> {
        let mut counts = vec![0.0; logits.len()];
        for i in 0..10_000 {
            let token = choose(logits, settings, (f64::from(i) + 0.5) / 10_000.0).unwrap();
            counts[token] += 1e-4;
        }
        counts
    }

    #[test]
    fn frequencies_are_the_tempered_softmax() {
        let logits = [1.0f32, -0.5, 0.25, 2.0];
        for temperature in [0.5f32, 1.0, 3.0] {
            let weights: Vec<f64> = logits.iter().map(|l| f64::from(l / temperature).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (got, weight) in histogram(&logits, &settings(temperature, None, None)).iter().zip(&weights) {
                assert!((got - weight / total).abs() < 2e-4);
            }
        }
    }

    #[test]
    fn filters_keep_what_they_say() {
        let logits: Vec<f32> = [0.5f32, 0.2, 0.2, 0.1].iter().map(|p| p.ln()).collect();
        let kept = |top_k, top_p| -> Vec<bool> {
            histogram(&logits, &settings(1.0, top_k, top_p)).iter().map(|&count| count > 0.0).collect()
        };
        assert_eq!(kept(Some(1), None), [true, false, false, false]);
        // A tie goes to the smaller id.
        assert_eq!(kept(Some(2), None), [true, true, false, false]);
        assert_eq!(kept(None, Some(0.45)), [true, false, false, false]);
        assert_eq!(kept(None, Some(0.6)), [true, true, false, false]);
        assert_eq!(kept(None, Some(0.8)), [true, true, true, false]);
        // Top-p applies to what top-k left: 0.5 of 0.7 is 71 %.
        assert_eq!(kept(Some(2), Some(0.7)), [true, false, false, false]);
    }

    #[test]
    fn temperature_zero_is_the_most_likely() {
        assert_eq!(choose(&[0.0, 3.0, 3.0], &settings(0.0, None, None), 0.99), Some(1));
    }

    #[test]
    fn non_finite_logits_are_refused() {
        for logits in [&[f32::NAN, 1.0][..], &[f32::INFINITY, 1.0], &[f32::NEG_INFINITY], &[]] {
            assert_eq!(choose(logits, &settings(1.0, None, None), 0.5), None);
        }
    }

    /// [`choose`], but all tokens are sorted whatever the filters.
    fn choose_sorted(logits: &[f32], settings: &SamplingSettings, uniform: f64) -> Option<usize> {
        let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let scaled = |logit: f32| (f64::from(logit) - f64::from(best)) / f64::from(settings.temperature);
        let mut kept: Vec<(usize, f64)> =
            logits.iter().map(|&logit| scaled(logit).exp()).enumerate().collect();
        kept.sort_by(|(i, a), (j, b)| b.total_cmp(a).then(i.cmp(j)));
        kept.truncate(settings.top_k.unwrap_or(usize::MAX));
        if let Some(p) = settings.top_p {
            kept.truncate(nucleus(&kept, f64::from(p)));
        }
        kept.sort_by_key(|(index, _)| *index);
        let mut left = uniform * kept.iter().map(|(_, weight)| weight).sum::<f64>();
        let picked = kept.iter().find(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        picked.or_else(|| kept.iter().rfind(|(_, weight)| *weight > 0.0)).map(|(index, _)| *index)
    }

    proptest! {
        #[test]
        fn filters_select_the_token_that_sorting_all_selects(
            // Few values, so that there are ties, some far below the others.
            logits in proptest::collection::vec((-20i8..20).prop_map(|x| f32::from(x) * 60.0 / 7.0), 1..300),
            temperature in 0.01f32..5.0, k in proptest::option::of(1usize..320),
            p in proptest::option::of(1e-6f32..=1.0), uniform in 0f64..1.0,
        ) {
            let settings = settings(temperature, k, p);
            prop_assert_eq!(choose(&logits, &settings, uniform), choose_sorted(&logits, &settings, uniform));
        }

        #[test]
        fn always_a_token_of_positive_probability_that_the_filters_keep(
            logits in proptest::collection::vec(-50f32..50.0, 1..40),
            temperature in 0f32..5.0, k in proptest::option::of(1usize..50),
            p in proptest::option::of(1e-6f32..=1.0), uniform in 0f64..1.0,
        ) {
            let token = choose(&logits, &settings(temperature, k, p), uniform).unwrap();
            let likelier = |&other: &usize| logits[other] > logits[token];
            let above: Vec<usize> = (0..logits.len()).filter(likelier).collect();
            prop_assert!(above.len() < k.unwrap_or(usize::MAX));
            if temperature == 0.0 {
                prop_assert!(above.is_empty());
            } else {
                let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let weight = |logit: f32| (f64::from(logit - best) / f64::from(temperature)).exp();
                let mut weights: Vec<f64> = logits.iter().copied().map(weight).collect();
                let before: f64 = above.iter().map(|&other| weights[other]).sum();
                prop_assert!(weights[token] > 0.0);
                weights.sort_by(|a, b| b.total_cmp(a));
                let kept: f64 = weights.iter().take(k.unwrap_or(usize::MAX)).sum();
                // The likelier tokens do not reach `p` without this one.
                prop_assert!(p.is_none_or(|p| before < f64::from(p) * kept + 1e-5));
            }
        }
    }
}

//! The prior's update: its gradient against differences of its loss, its products and rows against plain loops.

mod common;

use common::{assert_close, numbers};
use dalle_kernels::grid::zeros;
use dalle_kernels::matrix::{Outer, Packed, Product, Rows, Then};
use dalle_kernels::prior::{Pair, PriorSizes, PriorUpdate};
use dalle_kernels::rows::{CrossEntropy, Gelu, GeluGradient, GeluInPlace, Norm, NormGradient, Sum};
use dalle_kernels::simd::Processor;

const SIZES: PriorSizes = PriorSizes {
    layers: 4,
    heads: 2,
    head: 16,
    conv_kernel: 3,
    text: 5,
    grid: 4,
    text_vocab: 11,
    image_vocab: 19,
};

fn pairs<'a>(inputs: &'a [Vec<u32>], images: &'a [Vec<u32>]) -> Vec<Pair<'a>> {
    let pair = |(i, (input, image)): (usize, (&'a Vec<u32>, &'a Vec<u32>))| Pair {
        input,
        scored: i % 4 != 3,
        image,
        seen: &images[(i + 1) % images.len()],
    };
    inputs.iter().zip(images).enumerate().map(pair).collect()
}

fn tokens(count: usize, lengths: impl Fn(usize) -> usize, vocab: usize) -> Vec<Vec<u32>> {
    (0..count).map(|i| (0..lengths(i)).map(|j| ((7 * i + j * j + 3 * j) % vocab) as u32).collect()).collect()
}

#[test]
fn products_are_sums_of_products_whatever_their_size() {
    for (m, k, n) in [(1, 1, 1), (7, 5, 16), (13, 20, 33), (6, 3, 100), (9, 64, 48)] {
        let (a, b, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3));
        let columns = n.next_multiple_of(16);
        let mut expected = vec![0.0; m * n];
        for i in 0..m * n {
            let product = |j: usize| f64::from(a[i / n * k + j]) * f64::from(b[j * n + i % n]);
            expected[i] = ((0..k).map(product).sum::<f64>() + f64::from(bias[i % n])) as f32;
        }
        let mut padded = bias.clone();
        padded.resize(columns, 0.0);
        let turned: Vec<f32> = (0..n * k).map(|i| b[i % k * n + i / k]).collect();
        for processor in Processor::all() {
            for backward in [false, true] {
                let mut packed = Packed::zeros(k, n);
                if backward {
                    packed.set_transposed(&turned);
                } else {
                    packed.set(&b);
                }
                let mut y = zeros(m * columns);
                let rows = Rows { data: &a, first: 0, stride: k };
                let (then, stride) = (Then::Set(&padded), columns);
                processor.run(Product { a: rows, rows: m, b: &packed, then, y: &mut y, stride });
                let then = Then::Add(&[]);
                processor.run(Product { a: rows, rows: m, b: &packed, then, y: &mut y, stride });
                let got: Vec<f32> = y.chunks_exact(columns).flat_map(|row| &row[..n]).copied().collect();
                let twice: Vec<f32> = (0..m * n).map(|i| 2.0 * expected[i] - bias[i % n]).collect();
                assert_close(&got, &twice, 1e-5, "product");
            }
            // bᵀ·b, of the padded rows.
            let mut right = zeros(k * columns);
            for (to, from) in right.chunks_exact_mut(columns).zip(b.chunks_exact(n)) {
                to[..n].copy_from_slice(from);
            }
            let mut c = zeros(n * columns);
            let rows = Rows { data: &right, first: 0, stride: columns };
            processor.run(Outer { a: rows, m: n, b: rows, n: columns, rows: k, c: &mut c, stride: columns });
            let square = |i: usize| {
                (0..k).map(|j| f64::from(b[j * n + i / n]) * f64::from(b[j * n + i % n])).sum::<f64>() as f32
            };
            let expected: Vec<f32> = (0..n * n).map(square).collect();
            let got: Vec<f32> = c.chunks_exact(columns).flat_map(|row| &row[..n]).copied().collect();
            assert_close(&got, &expected, 1e-5, "outer");
        }
    }
}

#[test]
fn an_outer_product_that_is_packed_adds_up_the_same_values_in_the_same_order() {
    let (rows, m, n) = (290, 131, 800);
    // Two rows of the left matrix apart, and its columns from the third on.
    let stride = m + 5;
    let (left, right, before) = (numbers(rows * stride, 1), numbers(rows * n, 2), numbers(m * n, 3));
    for processor in Processor::all() {
        let outer = |first: usize, columns: usize, c: &mut [f32]| {
            let a = Rows { data: &left, first, stride };
            let b = Rows { data: &right, first: 0, stride: n };
            processor.run(Outer { a, m: columns, b, n, rows, c, stride: n });
        };
        let mut whole = before.clone();
        outer(3, m, &mut whole);
        // One column of the left matrix at once is small enough to be read where it lies.
        for column in 0..m {
            let mut alone = before[column * n..][..n].to_vec();
            outer(3 + column, 1, &mut alone);
            assert_eq!(alone, whole[column * n..][..n], "column {column}");
        }
    }
}

#[test]
fn rows_follow_their_definitions() {
    let d = 32;
    let x: Vec<f32> = numbers(3 * d, 1).iter().map(|x| 4.0 * x).collect();
    // erf by its series, to far below f32's precision.
    let share = |x: f64| {
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= -x * x / 2.0 / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        0.5 + sum / (2.0 * std::f64::consts::PI).sqrt()
    };
    let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    for processor in Processor::all() {
        let mut y = vec![0.0; 3 * d];
        processor.run(Gelu { x: &x, y: &mut y });
        let expected: Vec<f32> = x.iter().map(|&x| (f64::from(x) * share(f64::from(x))) as f32).collect();
        assert_close(&y, &expected, 1e-6, "GELU");
        let (mut again, mut dy) = (x.clone(), vec![1.0; 3 * d]);
        processor.run(GeluGradient { x: &mut again, dy: &mut dy });
        assert_close(&again, &expected, 1e-6, "GELU again");
        let slope = |&x: &f32| (share(f64::from(x)) + f64::from(x) * density(f64::from(x))) as f32;
        assert_close(&dy, &x.iter().map(slope).collect::<Vec<_>>(), 1e-6, "GELU's gradient");

        let mut in_place = x.clone();
        processor.run(GeluInPlace { x: &mut in_place });
        assert_eq!(in_place, y, "GELU in place");
        let sum: f64 = x.iter().map(|&x| f64::from(x)).sum();
        assert!((f64::from(processor.run(Sum { x: &x })) - sum).abs() < 1e-4, "sum");

        let (gamma, beta) = (numbers(d, 2), numbers(d, 3));
        let mut statistics = vec![[0.0; 2]; 3];
        processor.run(Norm { x: &x, gamma: &gamma, beta: &beta, statistics: &mut statistics, y: &mut y });
        for (row, y) in x.chunks_exact(d).zip(y.chunks_exact(d)) {
            let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / d as f64;
            let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / d as f64;
            let normal = |i: usize| (f64::from(row[i]) - mean) / (variance + 1e-5).sqrt();
            let expected: Vec<f32> =
                (0..d).map(|i| (normal(i) * f64::from(gamma[i]) + f64::from(beta[i])) as f32).collect();
            assert_close(y, &expected, 1e-5, "LayerNorm");
        }

        let mut logits = x[..d].to_vec();
        let (classes, target, weight) = (29, 3, 0.5);
        let loss = processor.run(CrossEntropy { logits: &mut logits, classes, target, weight });
        let sum: f64 = x[..classes].iter().map(|&l| f64::from(l).exp()).sum();
        assert!((f64::from(loss) - (sum.ln() - f64::from(x[target]))).abs() < 1e-5, "cross-entropy");
        for (i, gradient) in logits.iter().enumerate() {
            let share = if i < classes { f64::from(x[i]).exp() / sum } else { 0.0 };
            let expected = 0.5 * (share - if i == target { 1.0 } else { 0.0 });
            assert!((f64::from(*gradient) - expected).abs() < 1e-6, "class {i}");
        }
    }
}

#[test]
fn the_gradient_of_layer_norm_is_its_slope() {
    let d = 32;
    let (x, gamma, beta, dy) = (numbers(2 * d, 1), numbers(d, 2), numbers(d, 3), numbers(2 * d, 4));
    for processor in Processor::all() {
        let value = |x: &[f32], gamma: &[f32]| {
            let (mut statistics, mut y) = (vec![[0.0; 2]; 2], vec![0.0; 2 * d]);
            processor.run(Norm { x, gamma, beta: &beta, statistics: &mut statistics, y: &mut y });
            let value: f64 = y.iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum();
            (value, statistics)
        };
        let (_, statistics) = value(&x, &gamma);
        let [mut dx, mut d_gamma, mut d_beta] = [vec![0.0; 2 * d], vec![0.0; d], vec![0.0; d]];
        processor.run(NormGradient {
            x: &x,
            gamma: &gamma,
            statistics: &statistics,
            dy: &dy,
            dx: &mut dx,
            d_gamma: &mut d_gamma,
            d_beta: &mut d_beta,
        });
        let slope = |of: &[f32], at: usize, value: &dyn Fn(&[f32]) -> f64| {
            let moved = |step: f32| {
                let mut moved = of.to_vec();
                moved[at] += step;
                value(&moved)
            };
            ((moved(1e-2) - moved(-1e-2)) / 2e-2) as f32
        };
        let by_x: Vec<f32> = (0..2 * d).map(|i| slope(&x, i, &|x| value(x, &gamma).0)).collect();
        assert_close(&dx, &by_x, 1e-3, "x");
        let by_gamma: Vec<f32> = (0..d).map(|i| slope(&gamma, i, &|gamma| value(&x, gamma).0)).collect();
        assert_close(&d_gamma, &by_gamma, 1e-3, "γ");
        let sums: Vec<f32> = (0..d).map(|i| dy[i] + dy[d + i]).collect();
        assert_close(&d_beta, &sums, 1e-6, "β");
    }
}

#[test]
fn the_gradient_of_every_parameter_is_the_slope_of_the_loss() {
    let mut update = PriorUpdate::new(SIZES);
    let network = update.network().clone();
    let parameters: Vec<f32> = numbers(network.length(), 1).iter().map(|x| 0.6 * x).collect();
    let inputs = tokens(5, |i| i % 5, SIZES.text_vocab);
    let images = tokens(5, |_| 16, SIZES.image_vocab);
    let pairs = pairs(&inputs, &images);
    let mut gradients = vec![0.0; parameters.len()];
    let losses = update.run(&parameters, &pairs, &mut gradients);
    assert_eq!(update.evaluate(&parameters, &pairs), losses);
    for (seed, parameter) in network.parameters.iter().enumerate() {
        let range = parameter.offset..parameter.offset + parameter.length();
        let direction = numbers(range.len(), 100 + seed as u32);
        let slope: f64 = gradients[range.clone()]
            .iter()
            .zip(&direction)
            .map(|(gradient, direction)| f64::from(*gradient) * f64::from(*direction))
            .sum();
        let step = 2e-2 / (range.len() as f32).sqrt();
        let mut at = |step: f32| {
            let mut moved = parameters.clone();
            for (value, direction) in moved[range.clone()].iter_mut().zip(&direction) {
                *value += step * direction;
            }
            update.evaluate(&moved, &pairs).total()
        };
        let measured = (at(step) - at(-step)) / (2.0 * f64::from(step));
        let norm: f64 =
            gradients[range].iter().map(|gradient| f64::from(*gradient).powi(2)).sum::<f64>().sqrt();
        assert!(norm > 0.0, "{}: no gradient", parameter.name);
        assert!(
            (slope - measured).abs() < 0.01 * norm + 1e-4,
            "{}: slope {slope}, measured {measured}, norm {norm}",
            parameter.name
        );
    }
}

#[test]
fn a_batch_is_the_same_on_any_number_of_threads_and_weighs_tokens_alike() {
    let inputs = tokens(19, |i| i % 5, SIZES.text_vocab);
    let images = tokens(19, |_| 16, SIZES.image_vocab);
    let pairs = pairs(&inputs, &images);
    let length = PriorUpdate::new(SIZES).network().length();
    let parameters: Vec<f32> = numbers(length, 1).iter().map(|x| 0.6 * x).collect();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let mut gradients = vec![0.0; length];
            let losses = PriorUpdate::new(SIZES).run(&parameters, &pairs, &mut gradients);
            (losses, gradients)
        })
    };
    let (losses, gradients) = on(1);
    for threads in [2, 3] {
        assert!(on(threads) == (losses, gradients.clone()), "{threads} threads");
    }
    // Token by token: pairs of one image and its caption have other shares of the text.
    let scored = |pair: &Pair<'_>| if pair.scored { (pair.input.len() + 1).min(4) } else { 0 };
    let all: usize = pairs.iter().map(scored).sum();
    let mut update = PriorUpdate::new(SIZES);
    let mut text = 0.0;
    for pair in &pairs {
        let losses = update.evaluate(&parameters, std::slice::from_ref(pair));
        text += losses.text * scored(pair) as f64 / all as f64;
    }
    assert!((text - losses.text).abs() < 1e-6, "{text} and {}", losses.text);
}

#[test]
fn a_pair_that_all_threads_share_has_the_gradients_and_losses_of_one_thread() {
    let sizes = PriorSizes { layers: 3, heads: 2, head: 32, text: 16, grid: 8, image_vocab: 99, ..SIZES };
    let (inputs, images) = (tokens(2, |i| 9 * i, sizes.text_vocab), tokens(2, |_| 64, sizes.image_vocab));
    let pairs = pairs(&inputs, &images);
    let length = PriorUpdate::new(sizes).network().length();
    let parameters: Vec<f32> = numbers(length, 1).iter().map(|x| 0.3 * x).collect();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let (mut update, mut gradients) = (PriorUpdate::new(sizes), vec![0.0; length]);
            let losses = update.run(&parameters, &pairs, &mut gradients);
            (losses, update.evaluate(&parameters, &pairs), gradients)
        })
    };
    let alone = on(1);
    assert!(alone.2.iter().any(|gradient| *gradient != 0.0));
    for threads in [3, 4, 7] {
        assert!(on(threads) == alone, "{threads} threads");
    }
}

#[test]
fn logits_that_are_not_finite_give_a_loss_and_gradients_that_are_not() {
    for processor in Processor::all() {
        for logit in [f32::NAN, f32::INFINITY] {
            let mut logits = vec![0.5; 64];
            logits[7] = logit;
            let loss =
                processor.run(CrossEntropy { logits: &mut logits, classes: 60, target: 3, weight: 1.0 });
            assert!(!loss.is_finite(), "{logit}: {loss}");
            assert!(
                logits.iter().any(|gradient| !gradient.is_finite()),
                "{logit}: such an update would be applied"
            );
        }
    }
}

#[test]
fn shares_of_a_batch_add_up_to_it() {
    let mut update = PriorUpdate::new(SIZES);
    let length = update.network().length();
    let parameters: Vec<f32> = numbers(length, 1).iter().map(|x| 0.6 * x).collect();
    let inputs = tokens(6, |i| (3 * i) % 5, SIZES.text_vocab);
    let images = tokens(6, |_| 16, SIZES.image_vocab);
    let pairs = pairs(&inputs, &images);
    let mut whole = vec![0.0; length];
    let losses = update.run(&parameters, &pairs, &mut whole);
    let scored = update.scored(&pairs);
    let (mut sum, mut total) = (vec![0.0; length], 0.0);
    // The parts have different shares of the captions.
    for part in [&pairs[..1], &pairs[1..4], &pairs[4..]] {
        let mut gradients = vec![0.0; length];
        total += update.run_share(&parameters, part, scored, &mut gradients).total();
        for (sum, gradient) in sum.iter_mut().zip(&gradients) {
            *sum += gradient;
        }
    }
    assert_close(&sum, &whole, 1e-5, "gradients");
    assert!((total - losses.total()).abs() < 1e-9, "{total}, expected {losses:?}");
}

//! The attention that is shown, against the paper's formulas in double precision.

mod common;

use common::numbers;
use dalle_kernels::parameters::Parameter;
use dalle_kernels::prior::{PriorNetwork, PriorSizes, Sampler};
use dalle_kernels::storage::Storage;

const SIZES: PriorSizes = PriorSizes {
    layers: 6,
    heads: 2,
    head: 16,
    conv_kernel: 3,
    text: 5,
    grid: 4,
    text_vocab: 9,
    image_vocab: 12,
};

fn values(parameter: &Parameter) -> Vec<f32> {
    let numbers = numbers(parameter.length(), parameter.offset as u32 + 1);
    let gain = if parameter.name.ends_with("gamma") { 1.0 } else { 0.0 };
    numbers.into_iter().map(|number| gain + 0.3 * number).collect()
}

/// The transformer, row by row.
struct Reference {
    network: PriorNetwork,
}

impl Reference {
    fn get(&self, name: &str) -> Vec<f64> {
        let found = self.network.parameters.iter().find(|parameter| parameter.name == name);
        values(found.unwrap_or_else(|| panic!("no {name}"))).into_iter().map(f64::from).collect()
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (w, b) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        let n = b.len();
        (0..n).map(|j| b[j] + x.iter().enumerate().map(|(i, x)| x * w[i * n + j]).sum::<f64>()).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (gamma, beta) = (self.get(&format!("{name}.gamma")), self.get(&format!("{name}.beta")));
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (variance + 1e-5).sqrt();
        (0..x.len()).map(|i| (x[i] - mean) * scale * gamma[i] + beta[i]).collect()
    }

    fn embed(&self, caption: &[u32], image: &[u32]) -> Vec<Vec<f64>> {
        let d = SIZES.width();
        let row = |name: &str, index: usize| self.get(&format!("embed.{name}"))[index * d..][..d].to_vec();
        let add = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).map(|(a, b)| a + b).collect::<Vec<_>>();
        let text = (0..SIZES.text).map(|slot| {
            let token = match slot.checked_sub(1).and_then(|place| caption.get(place)) {
                Some(id) => row("text", *id as usize),
                None => row("padding", slot),
            };
            add(token, row("text_position", slot))
        });
        let image = image.iter().enumerate().map(|(position, token)| {
            let place = add(row("row", position / SIZES.grid), row("column", position % SIZES.grid));
            add(row("image", *token as usize), place)
        });
        text.chain(image).collect()
    }

    /// Whether the paper's mask of a layer lets a slot see another.
    fn sees(layer: usize, query: usize, key: usize) -> bool {
        if key > query {
            return false;
        }
        let (Some(query), Some(key)) = (query.checked_sub(SIZES.text), key.checked_sub(SIZES.text)) else {
            return true;
        };
        let back = query - key;
        if layer + 1 == SIZES.layers {
            // The kernel's rows above, wrapping round.
            back <= 1 || (SIZES.grid - 1..=SIZES.grid + 1).contains(&back)
        } else if layer % 4 == 1 {
            back % SIZES.grid == 0
        } else {
            back <= SIZES.grid
        }
    }

    /// Weights of the last slot in a layer, `[heads, slots]`.
    fn attention(&self, caption: &[u32], image: &[u32], wanted: usize) -> Vec<Vec<f64>> {
        let (d, width) = (SIZES.width(), SIZES.head);
        let mut x = self.embed(caption, image);
        for layer in 0..SIZES.layers {
            let name = |part: &str| format!("blocks.{layer}.{part}");
            let qkv: Vec<Vec<f64>> =
                x.iter().map(|x| self.linear(&name("qkv"), &self.norm(&name("norm_attention"), x))).collect();
            let weights = |query: usize, head: usize| {
                let scores: Vec<f64> = (0..x.len())
                    .map(|key| match Self::sees(layer, query, key) {
                        true => {
                            let dot: f64 = (0..width)
                                .map(|i| qkv[query][head * width + i] * qkv[key][d + head * width + i])
                                .sum();
                            (dot / (width as f64).sqrt()).exp()
                        }
                        false => 0.0,
                    })
                    .collect();
                let total: f64 = scores.iter().sum();
                scores.into_iter().map(|score| score / total).collect::<Vec<f64>>()
            };
            if layer == wanted {
                return (0..SIZES.heads).map(|head| weights(x.len() - 1, head)).collect();
            }
            let attended: Vec<Vec<f64>> = (0..x.len())
                .map(|query| {
                    (0..d)
                        .map(|column| {
                            let weights = weights(query, column / width);
                            weights.iter().zip(&qkv).map(|(weight, qkv)| weight * qkv[2 * d + column]).sum()
                        })
                        .collect()
                })
                .collect();
            for (x, attended) in x.iter_mut().zip(&attended) {
                let added = self.linear(&name("projection"), attended);
                x.iter_mut().zip(added).for_each(|(x, added)| *x += added);
                let hidden = self.linear(&name("fc1"), &self.norm(&name("norm_mlp"), x));
                let hidden: Vec<f64> = hidden.into_iter().map(gelu).collect();
                let added = self.linear(&name("fc2"), &hidden);
                x.iter_mut().zip(added).for_each(|(x, added)| *x += added);
            }
        }
        unreachable!("there is no such layer")
    }
}

/// x·Φ(x), with Φ by Simpson's rule.
fn gelu(x: f64) -> f64 {
    let density = |t: f64| (-t * t / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let steps = 400;
    let h = x / f64::from(steps);
    let weight = |i: i32| {
        if i == 0 || i == steps {
            1.0
        } else if i % 2 == 1 {
            4.0
        } else {
            2.0
        }
    };
    let integral: f64 = (0..=steps).map(|i| weight(i) * density(f64::from(i) * h)).sum::<f64>() * h / 3.0;
    x * (0.5 + integral)
}

#[test]
fn attention_weights_are_those_of_the_formulas_in_every_layer() {
    let reference = Reference { network: PriorNetwork::new(SIZES) };
    let sampler = Sampler::new(SIZES, Storage::F32, |parameter| Ok::<_, ()>(values(parameter))).unwrap();
    let (caption, tokens) = ([3, 8], [5, 11, 0, 2, 7, 7, 1, 9, 10]);
    for length in [0, 1, 6, 9] {
        let image = &tokens[..length];
        for layer in 0..SIZES.layers {
            let shown = sampler.attention(&caption, image, layer);
            let expected = reference.attention(&caption, image, layer);
            for (head, expected) in expected.iter().enumerate() {
                let mut got = vec![0.0; SIZES.text + length];
                got[..SIZES.text].copy_from_slice(&shown.text[head * SIZES.text..][..SIZES.text]);
                let image = &shown.image[head * shown.positions.len()..][..shown.positions.len()];
                for (position, weight) in shown.positions.iter().zip(image) {
                    got[SIZES.text + position] = *weight;
                }
                for (slot, (got, expected)) in got.iter().zip(expected).enumerate() {
                    let error = (f64::from(*got) - expected).abs();
                    assert!(error < 1e-5, "length {length}, layer {layer}, slot {slot}: {got} {expected}");
                }
                let total: f32 = got.iter().sum();
                assert!((total - 1.0).abs() < 1e-5);
            }
        }
    }
}

//! Decoding and encoding against the same layers in plain loops.

mod common;

use common::{Images, convolve, numbers};
use dalle_kernels::dvae::{Decoder, DvaeNetwork, DvaeSizes, Encoder, InferenceValues};
use dalle_kernels::parameters::Parameter;

const SIZES: [DvaeSizes; 3] = [
    DvaeSizes { n_hid: 12, n_init: 10, blocks_per_group: 2, vocab: 9 },
    DvaeSizes { n_hid: 8, n_init: 64, blocks_per_group: 1, vocab: 5 },
    DvaeSizes { n_hid: 20, n_init: 7, blocks_per_group: 3, vocab: 30 },
];

/// Weights that give images with contrast.
fn parameters(network: &DvaeNetwork) -> Vec<f32> {
    let mut values = numbers(network.length(), 7);
    let blocks = 4 * network.sizes.blocks_per_group;
    for parameter in &network.parameters {
        let fan_in: usize = parameter.shape[1..].iter().product();
        let scale = match parameter.shape.len() {
            1 => 0.2,
            _ if parameter.name.contains("conv_4") => 0.5 * (blocks * blocks) as f32 / (fan_in as f32).sqrt(),
            _ => 2.0 / (fan_in as f32).sqrt(),
        };
        for value in &mut values[parameter.offset..][..parameter.length()] {
            *value *= scale;
        }
    }
    values
}

/// The layers in plain loops.
struct Plain<'a> {
    network: &'a DvaeNetwork,
    parameters: &'a [f32],
}

impl Plain<'_> {
    fn layer(&self, name: &str) -> Option<(&[f32], &[f32], usize)> {
        let find = |end: &str| {
            let parameter = self.network.parameters.iter().find(|p| p.name == format!("{name}.{end}"))?;
            Some((parameter, &self.parameters[parameter.offset..][..parameter.length()]))
        };
        let ((w, kernel), (_, bias)) = (find("w")?, find("b")?);
        Some((kernel, bias, w.shape[2]))
    }

    fn conv(&self, name: &str, x: &Images) -> Images {
        let (w, bias, side) = self.layer(name).expect("a layer of that name");
        convolve(x, w, side, bias)
    }

    fn blocks(&self, half: &str, group: usize, mut x: Images) -> Images {
        let gain = 1.0 / (4 * self.network.sizes.blocks_per_group).pow(2) as f32;
        for place in 0..self.network.sizes.blocks_per_group {
            let name = format!("{half}.groups.{group}.{place}");
            let mut y = x.clone();
            for i in 1..5 {
                y = self.conv(&format!("{name}.res_path.conv_{i}"), &y.map(|x| x.max(0.0)));
            }
            let id = format!("{name}.id_path");
            x = if self.layer(&id).is_some() { self.conv(&id, &x) } else { x };
            for (x, y) in x.data.iter_mut().zip(&y.data) {
                *x += gain * y;
            }
        }
        x
    }

    /// The logits of an image, `[1, vocab, H/8, W/8]`.
    fn encode(&self, rgb: &[u8], width: usize) -> Images {
        let height = rgb.len() / (3 * width);
        let mut x = Images::zeros([1, 3, height, width]);
        for (i, value) in x.data.iter_mut().enumerate() {
            *value = f32::from(rgb[i % (width * height) * 3 + i / (width * height)]) / 255.0 * 0.8 + 0.1;
        }
        let mut x = self.conv("encoder.input", &x);
        for group in 0..4 {
            if group > 0 {
                let [_, channels, height, width] = x.shape;
                let mut small = Images::zeros([1, channels, height / 2, width / 2]);
                for (i, value) in small.data.iter_mut().enumerate() {
                    let (column, row) = (i % (width / 2), i / (width / 2) % (height / 2));
                    let pixels = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(down, right)| {
                        let (y, column) = (2 * row + down, 2 * column + right);
                        x.at(0, i / (height * width / 4), y as isize, column as isize) as f32
                    });
                    *value = pixels.into_iter().fold(f32::MIN, f32::max);
                }
                x = small;
            }
            x = self.blocks("encoder", group, x);
        }
        self.conv("encoder.output", &x.map(|x| x.max(0.0)))
    }

    fn decode(&self, tokens: &[u16], width: usize) -> Vec<u8> {
        self.paint(tokens, width, 3)
    }

    /// The image at full size, without the residual paths of the groups after `last`.
    fn paint(&self, tokens: &[u16], width: usize, last: usize) -> Vec<u8> {
        let height = tokens.len() / width;
        let mut x = Images::zeros([1, self.network.sizes.vocab, height, width]);
        for (place, &token) in tokens.iter().enumerate() {
            x.data[usize::from(token) * height * width + place] = 1.0;
        }
        let mut x = self.conv("decoder.input", &x);
        for group in 0..4 {
            if group > 0 {
                let [_, channels, height, width] = x.shape;
                let mut large = Images::zeros([1, channels, 2 * height, 2 * width]);
                for (i, value) in large.data.iter_mut().enumerate() {
                    let (column, row) = (i % (2 * width), i / (2 * width) % (2 * height));
                    *value = x.at(0, i / (4 * height * width), row as isize / 2, column as isize / 2) as f32;
                }
                x = large;
            }
            let id = format!("decoder.groups.{group}.0.id_path");
            x = match group {
                group if group <= last => self.blocks("decoder", group, x),
                _ if self.layer(&id).is_some() => self.conv(&id, &x),
                _ => x,
            };
        }
        let maps = self.conv("decoder.output", &x.map(|x| x.max(0.0)));
        let pixels = maps.shape[2] * maps.shape[3];
        let byte = |i: usize| {
            let mu = f64::from(maps.data[i % 3 * pixels + i / 3]);
            (255.0 * ((1.0 / (1.0 + (-mu).exp()) - 0.1) / 0.8).clamp(0.0, 1.0)).round() as u8
        };
        (0..3 * pixels).map(byte).collect()
    }
}

#[test]
fn decoding_is_the_layers_in_plain_loops() {
    for sizes in SIZES {
        let network = DvaeNetwork::new(sizes);
        let parameters = parameters(&network);
        let first = network.decoder()[0].offset;
        let decoder = Decoder::new(sizes, &parameters[first..]);
        for (rows, width) in [(1, 1), (5, 3), (7, 4), (4, 6)] {
            let tokens: Vec<u16> = (0..rows * width).map(|i| (i * i % sizes.vocab) as u16).collect();
            let expected = Plain { network: &network, parameters: &parameters }.decode(&tokens, width);
            let spread = expected.iter().max().zip(expected.iter().min()).map_or(0, |(a, b)| a - b);
            assert!(spread > 60, "{sizes:?}: an image with contrast, got {spread}");
            let image = decoder.decode(&tokens, width);
            assert_eq!(image.len(), expected.len());
            let far = image.iter().zip(&expected).filter(|(a, b)| a.abs_diff(**b) > 1).count();
            assert_eq!(far, 0, "{sizes:?}, {rows} × {width}");
        }
    }
}

#[test]
fn stages_are_plain_loops_without_the_residual_paths_of_later_groups() {
    for sizes in SIZES {
        let network = DvaeNetwork::new(sizes);
        let parameters = parameters(&network);
        let decoder = Decoder::new(sizes, &parameters[network.decoder()[0].offset..]);
        let plain = Plain { network: &network, parameters: &parameters };
        for (rows, width) in [(1, 1), (5, 3), (4, 6)] {
            let tokens: Vec<u16> = (0..rows * width).map(|i| (i * i % sizes.vocab) as u16).collect();
            let stages = decoder.stages(&tokens, width);
            for (group, stage) in stages.iter().enumerate() {
                let (side, factor) = (width << group, 8 >> group);
                assert_eq!(stage.len(), 3 * (rows << group) * side, "{sizes:?}: stage {group}");
                let expected = plain.paint(&tokens, width, group);
                let close = |(i, byte): (usize, &u8)| {
                    let (channel, x, y) = (i % 3, i / 3 % (8 * width), i / 3 / (8 * width));
                    stage[3 * (y / factor * side + x / factor) + channel].abs_diff(*byte) <= 1
                };
                assert!(expected.iter().enumerate().all(close), "{sizes:?}, {rows} × {width}: stage {group}");
            }
            assert_eq!(stages[3], decoder.decode(&tokens, width), "the last stage is the image");
            assert_ne!(stages[0], decoder.stages(&vec![1; tokens.len()], width)[0]);
        }
    }
}

#[test]
fn encoding_finds_the_greatest_logit_of_plain_loops() {
    let mut varied = false;
    for sizes in SIZES {
        let network = DvaeNetwork::new(sizes);
        let parameters = parameters(&network);
        let encoder = Encoder::new(sizes, &parameters[..network.decoder()[0].offset]);
        for (rows, columns) in [(1, 1), (5, 3), (2, 4)] {
            let (height, width) = (8 * rows, 8 * columns);
            // A patch of a colour of its own for each token.
            let byte = |i: usize| {
                let (channel, x, y) = (i % 3, i / 3 % width / 8, i / 3 / width / 8);
                ((7 * x + 5 * y + 3 * channel) * 101 % 256) as u8
            };
            let rgb: Vec<u8> = (0..3 * height * width).map(byte).collect();
            let logits = Plain { network: &network, parameters: &parameters }.encode(&rgb, width);
            let tokens = encoder.encode(&rgb, width);
            assert_eq!(tokens.len(), rows * columns);
            let places = rows * columns;
            for (place, &token) in tokens.iter().enumerate() {
                let at = |entry: usize| logits.data[entry * places + place];
                let most = (0..sizes.vocab).map(at).fold(f32::MIN, f32::max);
                assert!(at(usize::from(token)) > most - 1e-4 * most.abs(), "{sizes:?}: place {place}");
            }
            varied |= tokens.iter().any(|token| *token != tokens[0]);
        }
    }
    assert!(varied, "all images have one token alone");
}

#[test]
fn bands_on_several_threads_give_the_image_and_tokens_of_one() {
    // Large enough to be worth threads.
    let sizes = DvaeSizes { n_hid: 64, n_init: 20, blocks_per_group: 1, vocab: 50 };
    let network = DvaeNetwork::new(sizes);
    let parameters = parameters(&network);
    let (encoding, decoding) = parameters.split_at(network.decoder()[0].offset);
    let (encoder, decoder) = (Encoder::new(sizes, encoding), Decoder::new(sizes, decoding));
    let (rows, width) = (21, 13);
    let tokens: Vec<u16> = (0..rows * width).map(|i| (i * i % 50) as u16).collect();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let image = decoder.decode(&tokens, width);
            let encoded = encoder.encode(&image, 8 * width);
            (image, encoded, decoder.stages(&tokens, width))
        })
    };
    let one = on(1);
    for threads in [2, 3, 11] {
        assert!(on(threads) == one, "{threads} threads");
    }
}

#[test]
fn memory_is_that_of_the_weights_and_of_as_many_images_as_threads_take() {
    let sizes = DvaeSizes { n_hid: 16, n_init: 20, blocks_per_group: 2, vocab: 50 };
    let network = DvaeNetwork::new(sizes);
    // A 3×3 kernel is transformed into 4×4 values.
    let weights = |parameters: &[Parameter]| -> usize {
        let kernels = parameters.iter().filter(|parameter| parameter.shape.len() == 4);
        kernels.map(|p| if p.shape[2] == 3 { p.length() / 9 * 16 } else { p.length() }).sum()
    };
    let decoder = |images, threads| Decoder::values(sizes, (12, 10), images, threads);
    let encoder = |images, threads| Encoder::values(sizes, (12, 10), images, threads);
    assert_eq!(decoder(1, 1).weights, weights(network.decoder()));
    assert_eq!(encoder(1, 1).weights, weights(network.encoder()));
    for values in [&decoder as &dyn Fn(usize, usize) -> InferenceValues, &encoder] {
        let one = values(1, 1).maps;
        // At least the widest maps of 96 × 80 pixels: 16 channels, and two of 4.
        assert!((24 * 96 * 80..100 * 96 * 80).contains(&one), "{one}");
        assert_eq!(values(9, 1).maps, one);
        assert_eq!(values(2, 2).maps, 2 * one);
        assert_eq!(values(9, 4).maps, 4 * one);
        // Too little work to share.
        assert_eq!(values(1, 4).maps, one);
    }
}

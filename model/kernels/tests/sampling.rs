//! Products of a few rows against plain loops, and what a sampler's results do not depend on.

mod common;

use common::{assert_close, numbers};
use dalle_kernels::grid::zeros;
use dalle_kernels::prior::{PriorSizes, Sampler};
use dalle_kernels::simd::Processor;
use dalle_kernels::skinny::{Matrix, Skinny, TILE, tiles};
use dalle_kernels::storage::Storage;

/// Rows as tiles.
fn tiled(x: &[f32], rows: usize) -> Vec<f32> {
    let columns = x.len() / rows;
    let mut y = vec![0.0; tiles(rows, columns)];
    for (i, x) in x.iter().enumerate() {
        let (row, column) = (i / columns, i % columns);
        y[(column / TILE * rows + row) * TILE + column % TILE] = *x;
    }
    y
}

#[test]
fn a_product_of_few_rows_is_the_sum_of_products_in_every_type() {
    let round = |x: f32, storage| match storage {
        Storage::F32 => x,
        Storage::Bf16 => half::bf16::from_f32(x).to_f32(),
        Storage::F16 => half::f16::from_f32(x).to_f32(),
    };
    for processor in Processor::all() {
        for storage in [Storage::F32, Storage::Bf16, Storage::F16] {
            for (rows, k, n) in [(1, 64, 64), (2, 16, 100), (3, 80, 130), (5, 128, 64), (13, 100, 65)] {
                let (a, b) = (numbers(rows * k, 1), numbers(k * n, 2));
                // Some of f16's smallest numbers are among them.
                let b: Vec<f32> = b.iter().map(|b| if *b > 0.9 { b * 1e-6 } else { *b }).collect();
                let matrix = Matrix::new(&b, k, n, storage);
                let mut y = zeros(tiles(rows, n));
                y.copy_from_slice(&tiled(&vec![0.5; rows * n], rows));
                processor.run(Skinny { a: &tiled(&a, rows), rows, w: &matrix, first: 0, y: &mut y });
                let mut expected = vec![0.0; rows * n];
                for (i, expected) in expected.iter_mut().enumerate() {
                    let product =
                        |j: usize| f64::from(a[i / n * k + j]) * f64::from(round(b[j * n + i % n], storage));
                    *expected = (0.5 + (0..k).map(product).sum::<f64>()) as f32;
                }
                assert_close(&y, &tiled(&expected, rows), 1e-6, &format!("{storage:?} {rows}×{k}×{n}"));
                // Some of the panels, and each row alone: the very same.
                let mut part = y[rows * TILE..].to_vec();
                part.copy_from_slice(&tiled(&vec![0.5; rows * n], rows)[rows * TILE..]);
                if n > TILE {
                    processor.run(Skinny { a: &tiled(&a, rows), rows, w: &matrix, first: 1, y: &mut part });
                    assert_eq!(part, y[rows * TILE..]);
                }
                for row in 0..rows {
                    let mut alone = tiled(&vec![0.5; n], 1);
                    let a = tiled(&a[row * k..(row + 1) * k], 1);
                    processor.run(Skinny { a: &a, rows: 1, w: &matrix, first: 0, y: &mut alone });
                    for (tile, alone) in alone.chunks_exact(TILE).enumerate() {
                        assert_eq!(alone, &y[(tile * rows + row) * TILE..][..TILE], "row {row}");
                    }
                }
            }
        }
    }
}

/// Wide enough that threads share its products, with text of several panels.
const SIZES: PriorSizes = PriorSizes {
    layers: 3,
    heads: 5,
    head: 80,
    conv_kernel: 3,
    text: 85,
    grid: 5,
    text_vocab: 11,
    image_vocab: 900,
};

fn sampler(storage: Storage) -> Sampler {
    let mut seed = 0;
    let read = |parameter: &dalle_kernels::parameters::Parameter| {
        seed += 1;
        Ok::<_, ()>(numbers(parameter.length(), seed).iter().map(|x| x * 0.3).collect())
    };
    Sampler::new(SIZES, storage, read).expect("numbers are always there")
}

#[test]
fn a_sample_depends_neither_on_the_others_nor_on_the_number_of_threads_nor_on_what_was_given() {
    for storage in [Storage::F32, Storage::Bf16, Storage::F16] {
        let sampler = sampler(storage);
        let image: Vec<u32> = (0..25).map(|i| i * 37 % 900).collect();
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(|| {
                let (mut cache, first) = sampler.prefill(&[3, 1], &[]);
                let mut all = vec![first];
                for token in &image[..24] {
                    all.push(sampler.step(&mut [&mut cache], &[*token]));
                }
                all
            })
        };
        let alone = on(1);
        assert!(alone.iter().flatten().all(|logit| logit.is_finite()));
        for threads in [2, 3] {
            assert!(on(threads) == alone, "{storage:?}: {threads} threads");
        }
        // Two samples of the caption from token 7 on, beside another caption that has three and began later.
        let (cache, first) = sampler.prefill(&[3, 1], &image[..7]);
        assert!(first == alone[7], "{storage:?}: given");
        let mut cache = cache.repeat(2, &SIZES);
        let mut other = sampler.prefill(&[5; 20], &[]).0.repeat(3, &SIZES);
        for at in 7..24 {
            let tokens = [at as u32, 8, 9, image[at], (at as u32) * 2];
            let logits = sampler.step(&mut [&mut other, &mut cache], &tokens);
            assert!(logits[3 * 900..4 * 900] == alone[at + 1], "{storage:?}: step {at}");
        }
    }
}

#[test]
fn memory_is_that_of_weights_caches_and_rows() {
    for storage in [Storage::F32, Storage::F16] {
        let sampler = sampler(storage);
        let d = SIZES.width();
        let (cache, _) = sampler.prefill(&[1, 2], &[]);
        let (one, three) = (cache.bytes(), cache.repeat(3, &SIZES).bytes());
        let embeddings = (SIZES.text_vocab + 2 * SIZES.text + SIZES.image_vocab + 2 * SIZES.grid) * d * 4;
        let kept = sampler.step_bytes() + embeddings;
        for (samples, cache) in [(1, one), (3, three)] {
            let working = Sampler::bytes(&SIZES, storage, 1, samples) - kept - cache;
            // Rows of the whole stream: itself, and at most as wide as the MLP's hidden layer and some.
            let rows = SIZES.slots() * d * 4;
            assert!((5 * rows..8 * rows).contains(&working), "{working}, {rows} for each width");
        }
    }
}

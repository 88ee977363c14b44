use dalle_comm::Options;
use safetensors::SafeTensors;

use super::*;

const SHAPES: [[usize; 2]; 3] = [[6, 10], [12, 5], [8, 8]];

/// Everything in 32 bits.
fn exact(rank: usize) -> Config {
    Config { buffers: Precision::F32, wire: Wire::F32, ..Config::paper(rank, 5) }
}

/// Runs `machines` machines of `ranks` ranks each; `rank` gets its communicator.
fn run<R: Send>(machines: usize, ranks: usize, rank: impl Fn(&Communicator) -> R + Sync) -> Vec<R> {
    let options = Options { per_machine: Some(ranks), ..Options::default() };
    let all = Communicator::threads(machines * ranks, &options).unwrap();
    std::thread::scope(|scope| {
        let rank = &rank;
        let threads = all.into_iter().map(|own| {
            scope.spawn(move || {
                let result = rank(&own);
                own.finish().unwrap();
                result
            })
        });
        threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A gradient that differs by all of these.
fn gradient([rows, columns]: [usize; 2], machine: usize, update: usize, matrix: usize) -> Vec<f32> {
    let seed = (machine * 31 + update * 17 + matrix * 7 + 1) as u64;
    values(gaussian(seed, [rows, columns], &Device::flex()).mul_scalar(0.1))
}

fn gradients(machine: usize, update: usize) -> Vec<Tensor<2>> {
    let one = |(matrix, &shape): (usize, &[usize; 2])| {
        tensor(gradient(shape, machine, update, matrix), shape, &Device::flex())
    };
    SHAPES.iter().enumerate().map(one).collect()
}

fn compressor(config: Config, machines: usize) -> PowerSgd {
    PowerSgd::new(config, machines, &[SHAPES.to_vec()], &Device::flex())
}

/// Steps 2 to 7 of the only resblock.
fn exchange(sgd: &mut PowerSgd, communicator: &Communicator) -> Decompressed {
    let p = sgd.project(0, communicator);
    let q = sgd.factor(p, communicator).unwrap();
    sgd.decompress(q).unwrap()
}

fn update(
    sgd: &mut PowerSgd,
    communicator: &Communicator,
    gradients: Vec<Tensor<2>>,
) -> (Vec<Vec<f32>>, f64) {
    sgd.add(0, gradients, 1.0);
    let Decompressed { gradients, squares, .. } = exchange(sgd, communicator);
    (gradients.into_iter().map(values).collect(), squares)
}

fn errors(sgd: &PowerSgd) -> Vec<Vec<f32>> {
    sgd.resblocks[0].matrices.iter().map(|matrix| matrix.error.values()).collect()
}

fn assert_close(got: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-30, |most: f32, value| most.max(value.abs()));
    for (got, expected) in got.iter().zip(expected) {
        assert!(
            (got - expected).abs() <= tolerance * scale,
            "{what}: {got}, expected {expected} (scale {scale})"
        );
    }
}

fn add(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}

#[test]
fn updates_norms_and_error_buffers_are_those_of_pytorch() {
    let file = include_bytes!("../../tests/fixtures/power_sgd/expected.safetensors");
    let file = SafeTensors::deserialize(file).unwrap();
    let read = |name: String| -> Vec<f32> {
        let (bytes, _) = file.tensor(&name).unwrap().data().as_chunks::<4>();
        bytes.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    run(2, 1, |communicator| {
        let machine = communicator.rank(Group::Peers);
        let mut sgd = compressor(exact(3), 2);
        for (k, [rows, columns]) in SHAPES.into_iter().enumerate() {
            let shape = [rows.max(columns), 3];
            let given = tensor(read(format!("gaussian.{k}")), shape, &Device::flex());
            assert!(sgd.gaussians.insert(shape, given).is_some());
        }
        for step in 0..3 {
            let of =
                |k: usize| tensor(read(format!("gradient.{step}.{machine}.{k}")), SHAPES[k], &Device::flex());
            let (found, squares) = update(&mut sgd, communicator, (0..3).map(of).collect());
            for (k, found) in found.iter().enumerate() {
                let name = format!("decompressed.{step}.{k}");
                assert_close(found, &read(name.clone()), 1e-5, &name);
            }
            let expected = f64::from(read(format!("squares.{step}"))[0]);
            assert!((squares / expected - 1.0).abs() < 1e-5, "{squares}, expected {expected}");
        }
        for (k, error) in errors(&sgd).iter().enumerate() {
            let name = format!("error.{machine}.{k}");
            assert_close(error, &read(name.clone()), 1e-5, &name);
        }
    });
}

#[test]
fn at_full_rank_the_sum_comes_back_whole_and_nothing_is_left() {
    for machines in [1, 2, 4] {
        run(machines, 1, |communicator| {
            let mut sgd = compressor(exact(100), machines);
            let (found, squares) =
                update(&mut sgd, communicator, gradients(communicator.rank(Group::Peers), 0));
            let mut expected_squares = 0.0;
            for (k, shape) in SHAPES.into_iter().enumerate() {
                let mut sum = vec![0.0; shape[0] * shape[1]];
                (0..machines).for_each(|machine| add(&mut sum, &gradient(shape, machine, 0, k)));
                assert_close(&found[k], &sum, 1e-5, "the sum");
                expected_squares += sum.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
            }
            assert!((squares / expected_squares - 1.0).abs() < 1e-5, "{squares} {expected_squares}");
            let left = sgd.sums(0, communicator).unwrap();
            assert!(left.iter().flatten().all(|value| value.abs() < 1e-5), "{left:?}");
        });
    }
}

#[test]
fn what_was_not_applied_yet_is_in_the_error_buffers() {
    for (config, tolerance) in [(exact(2), 1e-5), (Config::paper(2, 5), 2e-2)] {
        for machines in [2, 4] {
            run(machines, 1, |communicator| {
                let mut sgd = compressor(config, machines);
                let mut applied: Vec<Vec<f32>> =
                    SHAPES.iter().map(|[rows, columns]| vec![0.0; rows * columns]).collect();
                let mut given = applied.clone();
                for step in 0..10 {
                    let (found, _) =
                        update(&mut sgd, communicator, gradients(communicator.rank(Group::Peers), step));
                    for (k, shape) in SHAPES.into_iter().enumerate() {
                        add(&mut applied[k], &found[k]);
                        (0..machines)
                            .for_each(|machine| add(&mut given[k], &gradient(shape, machine, step, k)));
                    }
                }
                let left = sgd.sums(0, communicator).unwrap();
                for (k, [rows, columns]) in SHAPES.into_iter().enumerate() {
                    let size = if rows > columns { [columns, rows] } else { [rows, columns] };
                    let left = tensor(left[k].clone(), size, &Device::flex());
                    add(&mut applied[k], &values(if rows > columns { left.transpose() } else { left }));
                    assert_close(&applied[k], &given[k], tolerance, "applied and left");
                }
            });
        }
    }
}

#[test]
fn the_mean_update_converges_to_the_mean_gradient() {
    // One gradient in all updates, and noise as large on each machine, as of minibatches: what compression loses comes later.
    for config in [exact(1), Config::paper(1, 5)] {
        run(2, 1, |communicator| {
            let machine = communicator.rank(Group::Peers);
            let mut sgd = compressor(config, 2);
            let shape = SHAPES[0];
            let mut given = vec![0.0; shape[0] * shape[1]];
            let mut applied = given.clone();
            let mut expected = gradient(shape, 0, 0, 0);
            add(&mut expected, &gradient(shape, 0, 0, 0));
            let norm = |values: &[f32]| values.iter().map(|value| value * value).sum::<f32>().sqrt();
            let mut after = Vec::new();
            for step in 1..=300 {
                let noisy = gradients(0, 0).into_iter().zip(gradients(machine, step));
                let (found, _) =
                    update(&mut sgd, communicator, noisy.map(|(one, noise)| one + noise).collect());
                add(&mut applied, &found[0]);
                for machine in 0..2 {
                    add(&mut given, &gradient(shape, 0, 0, 0));
                    add(&mut given, &gradient(shape, machine, step, 0));
                }
                let left: Vec<f32> =
                    given.iter().zip(&applied).map(|(given, applied)| given - applied).collect();
                after.push(norm(&left) / step as f32 / norm(&expected));
            }
            assert!(after[0] > 0.3, "one column of one update is far from it: {}", after[0]);
            assert!(
                after[299] < 0.1 && after[299] < after[29] / 5.0,
                "{} {} {}",
                after[0],
                after[29],
                after[299]
            );
        });
    }
}

#[test]
fn what_is_left_is_what_the_fixed_gaussian_does_not_see() {
    run(2, 1, |communicator| {
        let mut sgd = compressor(exact(2), 2);
        for step in 0..3 {
            update(&mut sgd, communicator, gradients(communicator.rank(Group::Peers), step));
        }
        let left = sgd.sums(0, communicator).unwrap();
        for (left, [rows, columns]) in left.into_iter().zip(SHAPES) {
            let (rows, columns) = (rows.min(columns), rows.max(columns));
            let seen =
                tensor(left, [rows, columns], &Device::flex()).matmul(sgd.gaussians[&[columns, 2]].clone());
            assert!(values(seen).iter().all(|value| value.abs() < 1e-5));
        }
    });
}

#[test]
fn all_machines_get_the_same_bits_in_16_bits_close_to_those_of_32() {
    for machines in [2, 4] {
        let results = run(machines, 1, |communicator| {
            let of = |config| {
                let mut sgd = compressor(config, machines);
                update(&mut sgd, communicator, gradients(communicator.rank(Group::Peers), 0))
            };
            (of(Config::paper(3, 5)), of(exact(3)))
        });
        let ((coarse, squares), (fine, _)) = &results[0];
        for (others, _) in &results {
            assert_eq!(&others.0, coarse);
            assert_eq!(others.1, *squares);
        }
        for (coarse, fine) in coarse.iter().zip(fine) {
            assert_close(coarse, fine, 0.02, "16 bits");
        }
    }
}

#[test]
fn shards_of_a_machine_are_compressed_apart_and_count_together_in_the_norm() {
    let results = run(2, 2, |communicator| {
        let (machine, shard) = (communicator.rank(Group::Peers), communicator.rank(Group::Machine));
        let mut sgd = compressor(exact(100), 2);
        let (found, squares) = update(&mut sgd, communicator, gradients(machine, shard));
        (found, global_norm(communicator, squares, 2.0).unwrap())
    });
    let mut squares = 2.0;
    for (rank, (found, norm)) in results.iter().enumerate() {
        assert_eq!(found, &results[rank % 2].0, "machines hold the same");
        assert_eq!(*norm, results[0].1);
        if rank < 2 {
            squares += found.iter().flatten().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        }
    }
    assert!((results[0].1 / squares.sqrt() - 1.0).abs() < 1e-5);
}

#[test]
fn a_gradient_that_is_not_finite_is_left_out_and_makes_the_norm_infinite_for_all() {
    let results = run(2, 1, |communicator| {
        let machine = communicator.rank(Group::Peers);
        let mut sgd = compressor(exact(2), 2);
        update(&mut sgd, communicator, gradients(machine, 0));
        let before = errors(&sgd);
        let mut bad = gradients(machine, 1);
        if machine == 1 {
            bad[1] = bad[1].clone().div_scalar(0.0);
        }
        assert_eq!(sgd.add(0, bad, 1.0), machine == 0);
        if machine == 1 {
            assert_eq!(errors(&sgd), before, "none of the resblock's gradients was added");
        }
        let Decompressed { squares, gradients, .. } = exchange(&mut sgd, communicator);
        assert!(gradients.into_iter().flat_map(values).all(f32::is_finite));
        let norm = global_norm(communicator, squares, 0.0).unwrap();
        // The next update is as any other.
        let (_, squares) = update(&mut sgd, communicator, self::gradients(machine, 2));
        (norm, global_norm(communicator, squares, 0.0).unwrap().is_finite())
    });
    assert_eq!(results, [(f64::INFINITY, true); 2]);
}

#[test]
fn a_contaminated_buffer_is_zeroed_alone() {
    run(2, 1, |communicator| {
        let machine = communicator.rank(Group::Peers);
        for config in [exact(2), Config::paper(2, 5)] {
            let mut healthy = compressor(config, 2);
            let mut sgd = compressor(config, 2);
            update(&mut healthy, communicator, gradients(machine, 0));
            update(&mut sgd, communicator, gradients(machine, 0));
            if machine == 0 {
                let mut bad = vec![0.0; SHAPES[1][0] * SHAPES[1][1]];
                bad[7] = f32::NAN;
                sgd.resblocks[0].matrices[1].error.add(&bad, 1.0);
            }
            let expected = exchange(&mut healthy, communicator);
            let found = exchange(&mut sgd, communicator);
            assert_eq!(found.squares == f64::INFINITY, machine == 0);
            assert_eq!(global_norm(communicator, found.squares, 0.0).unwrap(), f64::INFINITY);
            for (k, (found, expected)) in found.gradients.into_iter().zip(expected.gradients).enumerate() {
                let found = values(found);
                assert!(found.iter().all(|value| value.is_finite()));
                assert_eq!(found == values(expected), k != 1, "matrix {k}");
            }
            for (k, (error, expected)) in errors(&sgd).iter().zip(errors(&healthy)).enumerate() {
                assert!(error.iter().all(|value| value.is_finite()));
                assert_eq!(*error == expected, k != 1, "matrix {k}");
            }
        }
    });
}

#[test]
fn gradients_beyond_the_range_of_1_6_9_saturate_and_stay_finite() {
    run(2, 1, |communicator| {
        let mut sgd = compressor(Config::paper(3, 5), 2);
        let huge = gradients(communicator.rank(Group::Peers), 0);
        for step in 0..5 {
            let huge = huge.iter().map(|gradient| gradient.clone().mul_scalar(1e30)).collect();
            let (found, squares) = update(&mut sgd, communicator, huge);
            assert!(
                squares.is_finite() && found.iter().flatten().all(|value| value.is_finite()),
                "update {step}"
            );
            assert!(errors(&sgd).iter().flatten().all(|value| value.abs() < 16.0));
        }
    });
}

#[test]
fn zero_gradients_give_zero_updates() {
    run(2, 1, |communicator| {
        let mut sgd = compressor(Config::paper(3, 5), 2);
        let zeros = SHAPES.map(|shape| Tensor::<2>::zeros(shape, &Device::flex()));
        let (found, squares) = update(&mut sgd, communicator, zeros.to_vec());
        assert!(squares == 0.0 && found.iter().flatten().all(|value| *value == 0.0));
    });
}

#[test]
fn gradients_are_divided_by_their_scale() {
    run(1, 1, |communicator| {
        let of = |factor: f32, scale| {
            let mut sgd = compressor(exact(3), 1);
            sgd.add(
                0,
                gradients(0, 0).into_iter().map(|gradient| gradient.mul_scalar(factor)).collect(),
                scale,
            );
            exchange(&mut sgd, communicator).gradients.into_iter().flat_map(values).collect::<Vec<_>>()
        };
        assert_eq!(of(8192.0, 8192.0), of(1.0, 1.0));
    });
}

#[test]
fn a_checkpoint_holds_the_sum_over_machines_and_any_number_of_them_continues() {
    let saved = run(2, 1, |communicator| {
        let mut sgd = compressor(exact(2), 2);
        update(&mut sgd, communicator, gradients(communicator.rank(Group::Peers), 0));
        sgd.sums(0, communicator).unwrap()
    });
    assert_eq!(saved[0], saved[1]);
    for machines in [1, 2, 4] {
        for again in run(machines, 1, |communicator| {
            let mut sgd = compressor(exact(2), machines);
            sgd.restore(0, &saved[0]);
            sgd.sums(0, communicator).unwrap()
        }) {
            for (again, saved) in again.iter().zip(&saved[0]) {
                assert_close(again, saved, 1e-6, "the sum");
            }
        }
    }
}

#[test]
fn the_papers_size_is_compressed_by_86_per_cent() {
    // One of 8 shards of a layer at d = 3968, with 112 of 896 columns: 1 − 5r ÷ (8d).
    let (d, shard) = (3968, 3968 / 8);
    let attention = vec![[d, shard]; 4];
    let mlp = vec![[d, 4 * shard], [4 * shard, d]];
    let sgd = PowerSgd::new(Config::paper(112, 0), 128, &[attention, mlp], &Device::flex());
    let (compressed, whole) = sgd.bytes();
    let saved = 1.0 - compressed as f64 / whole as f64;
    assert!((saved - (1.0 - 5.0 * 896.0 / (8.0 * d as f64))).abs() < 1e-9, "{saved}");
    assert!((saved - 0.86).abs() < 0.005, "{saved}");
}

#[test]
fn resblocks_on_the_way_at_once_give_what_they_give_one_after_the_other() {
    run(2, 1, |communicator| {
        let machine = communicator.rank(Group::Peers);
        let start = || {
            let shapes = vec![SHAPES.to_vec(); 3];
            let mut sgd = PowerSgd::new(Config::paper(2, 5), 2, &shapes, &Device::flex());
            (0..3).for_each(|index| assert!(sgd.add(index, gradients(machine, index), 1.0)));
            sgd
        };
        let read =
            |found: Decompressed| (found.index, found.gradients.into_iter().map(values).collect::<Vec<_>>());
        let mut sgd = start();
        let expected: Vec<_> = (0..3)
            .map(|index| {
                let p = sgd.project(index, communicator);
                let q = sgd.factor(p, communicator).unwrap();
                read(sgd.decompress(q).unwrap())
            })
            .collect();
        let mut sgd = start();
        let ps: Vec<_> = (0..3).map(|index| sgd.project(index, communicator)).collect();
        let qs: Vec<_> = ps.into_iter().map(|p| sgd.factor(p, communicator).unwrap()).collect();
        let found: Vec<_> = qs.into_iter().map(|q| read(sgd.decompress(q).unwrap())).collect();
        assert_eq!(found, expected);
    });
}

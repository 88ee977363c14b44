use std::time::Duration;

use dalle_comm::Options;
use dalle_model::Device;
use dalle_model::config::ModelConfig;
use dalle_model::prior::Prior;

use super::*;
use crate::power_sgd::{Config, Precision};

const CONFIG: AdamWConfig =
    AdamWConfig { beta1: 0.9, beta2: 0.96, epsilon: 1e-8, weight_decay: 0.1, clip: Some(4.0), ewma: 0.9 };

fn config() -> ModelConfig {
    serde_json::from_str(include_str!("../../../configs/tiny.json")).unwrap()
}

/// The same on all ranks: there is one random generator for all threads.
fn prior() -> Prior {
    let _random = crate::DEVICE_RANDOM.lock();
    let prior = Prior::new(&config(), &Device::flex());
    let parameters = RowLayout::of(&prior, 1);
    let mut values = parameters.parameters().iter().enumerate().map(|(seed, parameter)| {
        (0..parameter.length())
            .map(|i| ((i * 31 + seed * 7) % 101) as f32 / 500.0 - 0.1)
            .collect::<Vec<f32>>()
    });
    prior.map(&mut Replace { values: &mut values, parameters: parameters.parameters() })
}

/// Gradients of an update on a rank.
fn gradients(prior: &Prior, update: usize, rank: usize) -> Gradients {
    let mut gradients = Gradients::default();
    for (seed, parameter) in RowLayout::of(prior, 1).parameters().iter().enumerate() {
        let value =
            |i: usize| ((i * 17 + i * i % 13 + seed * 5 + update * 3 + rank * 29) % 97) as f32 / 1e4 - 5e-3;
        let values: Vec<f32> = (0..parameter.length()).map(value).collect();
        gradients.insert(parameter.path.clone(), Tensor::from_data(&values[..], &Device::flex()));
    }
    gradients
}

/// Values of the network after some updates by four ranks on two machines, and the norms of their gradients.
fn train(updates: usize, compression: Option<Compress>) -> (Vec<f32>, Vec<f64>) {
    let options = Options { timeout: Duration::from_secs(60), per_machine: Some(2), ..Options::default() };
    let communicators = Communicator::threads(4, &options).unwrap();
    let all: Vec<_> = std::thread::scope(|scope| {
        let ranks: Vec<_> = communicators
            .into_iter()
            .map(|communicator| {
                scope.spawn(move || {
                    let (communicator, mut network) = (Arc::new(communicator), prior());
                    let own = Arc::clone(&communicator);
                    let mut optimizer = ShardedAdamW::new(CONFIG, compression, own, &network);
                    let mut norms = Vec::new();
                    for update in 0..updates {
                        let own = gradients(&network, update, communicator.rank(Group::World));
                        let norm;
                        (network, norm) = optimizer.step(network, own, 1e-3).unwrap();
                        norms.push(norm);
                    }
                    communicator.finish().unwrap();
                    let mut values = Vec::new();
                    read_values(&network, &mut values);
                    (values, norms)
                })
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    });
    assert!(all.iter().all(|rank| *rank == all[0]), "ranks differ");
    all.into_iter().next().unwrap()
}

fn full_rank() -> Config {
    Config { buffers: Precision::F32, wire: Wire::F32, ..Config::paper(10_000, 3) }
}

#[test]
fn compression_at_full_rank_changes_nothing_also_if_it_is_switched_off() {
    let (plain, plain_norms) = train(10, None);
    for on_trial in [false, true] {
        let (values, norms) = train(10, Some(Compress { config: full_rank(), on_trial }));
        for (norm, expected) in norms.iter().zip(&plain_norms) {
            assert!((norm - expected).abs() < 1e-3 * expected, "{norms:?}, expected {plain_norms:?}");
        }
        // AdamW turns the sign of a gradient near 0 into a whole step, of 1e-3.
        let far = values.iter().zip(&plain).filter(|(value, expected)| (*value - *expected).abs() > 1e-4);
        assert!(far.count() * 1000 < plain.len(), "trial: {on_trial}");
    }
}

#[test]
fn error_buffers_in_a_checkpoint_are_those_that_ranks_continue_with() {
    let options = Options { timeout: Duration::from_secs(60), per_machine: Some(1), ..Options::default() };
    let compress = Compress { config: Config { rank: 2, ..full_rank() }, on_trial: false };
    std::thread::scope(|scope| {
        for communicator in Communicator::threads(2, &options).unwrap() {
            scope.spawn(move || {
                let (communicator, network) = (Arc::new(communicator), prior());
                let new = || ShardedAdamW::new(CONFIG, Some(compress), Arc::clone(&communicator), &network);
                let mut optimizer = new();
                let own = gradients(&network, 0, communicator.rank(Group::World));
                optimizer.step(network.clone(), own, 1e-3).unwrap();
                let errors = |optimizer: &ShardedAdamW| {
                    optimizer.compression.as_ref().unwrap().errors(&communicator).unwrap()
                };
                let saved = errors(&optimizer);
                assert!(saved.iter().any(|(_, _, error)| error.iter().any(|value| value.abs() > 1e-4)));
                let tensors = saved
                    .iter()
                    .map(|(path, shape, error)| (path.clone(), TensorData::new(error.clone(), *shape)));
                let mut restored = new();
                let mut tensors: BTreeMap<_, _> = tensors.collect();
                restored.compression.as_mut().unwrap().restore(&tensors).unwrap();
                for ((path, _, error), (_, _, expected)) in errors(&restored).iter().zip(&saved) {
                    for (error, expected) in error.iter().zip(expected) {
                        assert!((error - expected).abs() <= 1e-6 * expected.abs(), "{path}");
                    }
                }
                // Of another configuration.
                let path = saved[0].0.clone();
                tensors.insert(path.clone(), TensorData::new(vec![0.0_f32; 3], [3, 1]));
                let error = restored.compression.as_mut().unwrap().restore(&tensors).unwrap_err();
                assert!(error.to_string().contains(&path), "{error}");
                communicator.finish().unwrap();
            });
        }
    });
}

#[test]
fn the_compression_error_is_what_is_left_of_the_sums_over_machines() {
    let options = Options { timeout: Duration::from_secs(60), per_machine: Some(2), ..Options::default() };
    let errors = |columns: usize| -> Vec<(f64, f64)> {
        let compress = Compress { config: Config { rank: columns, ..full_rank() }, on_trial: false };
        std::thread::scope(|scope| {
            let ranks = Communicator::threads(4, &options).unwrap().into_iter().map(|communicator| {
                scope.spawn(move || {
                    let (communicator, network) = (Arc::new(communicator), prior());
                    let own = Arc::clone(&communicator);
                    let mut optimizer = ShardedAdamW::new(CONFIG, Some(compress), own, &network);
                    assert_eq!(optimizer.compression_error().unwrap(), None, "before the first update");
                    let (mut estimate, mut exact) = (0.0, 0.0);
                    for update in 0..6 {
                        let own = gradients(&network, update, communicator.rank(Group::World));
                        optimizer.step(network.clone(), own, 1e-3).unwrap();
                        estimate = optimizer.compression_error().unwrap().unwrap();
                        let compression = optimizer.compression.as_ref().unwrap();
                        let sums = compression.errors(&communicator).unwrap();
                        let left: f64 =
                            sums.iter().flat_map(|sum| &sum.2).map(|x| f64::from(*x).powi(2)).sum();
                        let own =
                            vec![left as f32, compression.left_and_sent(0, &communicator).unwrap()[1] as f32];
                        let all = communicator.all_reduce(Group::World, own, Wire::F32).wait().unwrap();
                        exact = f64::from(all[0] / (all[0] + all[1])).sqrt();
                    }
                    communicator.finish().unwrap();
                    (estimate, exact)
                })
            });
            ranks.collect::<Vec<_>>().into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    };
    for columns in [1, 4, 10_000] {
        let all = errors(columns);
        assert!(all.iter().all(|rank| *rank == all[0]), "ranks differ: {all:?}");
        let (estimate, exact) = all[0];
        assert!(
            (estimate - exact).abs() < 0.1 * exact + 1e-4,
            "{columns} columns: {estimate}, exactly {exact}"
        );
        assert_eq!(exact > 0.1, columns < 10_000, "{columns} columns: {exact}");
    }
}

#[test]
fn predicted_bytes_are_those_that_ranks_send() {
    for (machines, per_machine, columns) in
        [(1, 4, None), (2, 2, None), (4, 1, None), (2, 2, Some(3)), (2, 1, Some(8)), (2, 1, Some(10_000))]
    {
        let options = Options {
            timeout: Duration::from_secs(60),
            per_machine: Some(per_machine),
            ..Options::default()
        };
        let communicators = Communicator::threads(machines * per_machine, &options).unwrap();
        let config = columns.map(|columns| Config::paper(columns, 3));
        let compression = config.map(|config| Compress { config, on_trial: false });
        std::thread::scope(|scope| {
            for communicator in communicators {
                scope.spawn(move || {
                    let (communicator, network) = (Arc::new(communicator), prior());
                    let rank = communicator.rank(Group::World);
                    let own = Arc::clone(&communicator);
                    let mut optimizer = ShardedAdamW::new(CONFIG, compression, own, &network);
                    optimizer.step(network.clone(), gradients(&network, 0, rank), 1e-3).unwrap();
                    let sent = |group: Group| communicator.traffic(group).sent as usize;
                    let expected = UpdateTraffic::of(&network, machines, per_machine, columns);
                    assert!(expected.compressed[1] > 0, "there are matrices of resblocks");
                    let case = format!("{machines} × {per_machine}, {columns:?}");
                    assert_eq!(sent(Group::Machine), expected.in_machine, "{case}: in the machine");
                    if communicator.rank(Group::Machine) == 0 {
                        assert_eq!(sent(Group::Peers), expected.between_machines, "{case}: between machines");
                    }
                    communicator.finish().unwrap();
                });
            }
        });
    }
}

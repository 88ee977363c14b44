//! Ranks in one process: their results, and how they end when one of them fails.

mod common;

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use common::{everything, hash, numbers};
use dalle_comm::{Communicator, Failure, Group, Options, Wire, share};

/// Runs each rank on a thread of its own.
fn run<R: Send>(
    size: usize,
    options: &Options,
    rank: impl Fn(Communicator) -> R + Sync,
) -> Vec<std::thread::Result<R>> {
    let communicators = Communicator::threads(size, options).expect("the machines are full");
    std::thread::scope(|scope| {
        let rank = &rank;
        let threads = communicators.into_iter().map(|own| scope.spawn(move || rank(own)));
        threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join()).collect()
    })
}

/// As [`run`], where no rank panics.
fn run_all<R: Send>(size: usize, options: &Options, rank: impl Fn(Communicator) -> R + Sync) -> Vec<R> {
    run(size, options, rank)
        .into_iter()
        .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        .collect()
}

/// Long enough for any machine: what fails before must have been noticed.
fn patient() -> Options {
    Options { timeout: Duration::from_mins(10), ..Options::default() }
}

#[test]
fn sums_are_those_of_rounded_values_in_the_order_of_ranks() {
    for size in [1, 2, 3, 4] {
        for wire in Wire::ALL {
            for length in [0, 1, 2, 3, 5, 100, 2051] {
                let inputs: Vec<Vec<f32>> =
                    (0..size).map(|rank| numbers(length, rank + 100 * length)).collect();
                let sum = |index: usize| {
                    inputs
                        .iter()
                        .map(|values| wire.round(values[index]))
                        .reduce(|sum, value| sum + value)
                        .unwrap()
                };
                let sums: Vec<f32> = (0..length).map(sum).collect();
                let all: Vec<f32> = sums.iter().map(|sum| wire.round(*sum)).collect();
                let results = run_all(size, &patient(), |own| {
                    let (group, values) = (Group::World, &inputs[own.rank(Group::World)]);
                    let part = own.reduce_scatter(group, values.clone(), wire).wait().unwrap();
                    let whole = own.all_reduce(group, values.clone(), wire).wait().unwrap();
                    let again = own.gather_values(group, part.clone(), wire).wait().unwrap();
                    own.finish().unwrap();
                    (part, whole, again)
                });
                for (rank, (part, whole, again)) in results.into_iter().enumerate() {
                    assert_eq!(
                        part,
                        sums[share(length, rank, size)],
                        "{size} ranks, {wire}, {length} values"
                    );
                    assert_eq!(whole, all);
                    assert_eq!(again, all);
                }
            }
        }
    }
}

#[test]
fn machines_and_peers_sum_among_themselves() {
    let options = Options { per_machine: Some(2), ..patient() };
    let sums = run_all(4, &options, |own| {
        let value = vec![10f32.powi(own.rank(Group::World) as i32)];
        let sum = |group| own.all_reduce(group, value.clone(), Wire::F32).wait().unwrap()[0];
        let sums = Group::ALL.map(sum);
        own.finish().unwrap();
        sums
    });
    assert_eq!(
        sums,
        [[1111.0, 11.0, 101.0], [1111.0, 11.0, 1010.0], [1111.0, 1100.0, 101.0], [1111.0, 1100.0, 1010.0]]
    );
}

#[test]
fn what_is_sent_in_parts_arrives_as_if_it_were_sent_at_once() {
    let results = |most_bytes| {
        let options = Options { per_machine: Some(2), most_bytes, ..patient() };
        run_all(4, &options, |own| {
            let results = everything(&own).unwrap();
            own.finish().unwrap();
            hash(&results)
        })
    };
    let whole = results(1 << 30);
    for most in [200, 1000] {
        assert_eq!(results(most), whole, "{most} bytes at once");
    }
}

#[test]
fn bytes_sent_and_time_are_counted_by_group() {
    let traffic = run_all(4, &Options { per_machine: Some(2), ..patient() }, |own| {
        // 10 values for 2 ranks: each sends 5 in 16 bits, gets 5 sums and sends them.
        own.all_reduce(Group::Machine, vec![1.0; 10], Wire::Bf16).wait().unwrap();
        own.all_gather(Group::World, vec![0; 100]).wait().unwrap();
        let traffic = Group::ALL.map(|group| own.traffic(group));
        own.finish().unwrap();
        traffic
    });
    for [world, machine, peers] in traffic {
        assert_eq!((world.calls, world.sent), (1, 300));
        assert_eq!((machine.calls, machine.sent), (1, 20));
        assert_eq!((peers.calls, peers.sent), (0, 0));
        assert!(world.busy > Duration::ZERO && machine.busy > Duration::ZERO);
        assert_eq!((peers.busy, peers.waited), (Duration::ZERO, Duration::ZERO));
    }
}

#[test]
fn a_rank_that_returns_before_the_first_collective_ends_all() {
    let results = run_all(3, &patient(), |own| match own.rank(Group::World) {
        1 => Ok(vec![]),
        _ => own.all_reduce(Group::World, vec![1.0], Wire::F32).wait(),
    });
    assert_eq!(results[0], Err(Failure::Left { rank: 1 }));
    assert_eq!(results[2], results[0]);
    assert!(results[0].as_ref().unwrap_err().to_string().contains("rank 1 ended early"));
}

#[test]
fn a_rank_that_finishes_while_others_go_on_ends_all() {
    let results = run_all(3, &patient(), |own| {
        own.barrier(Group::World).wait().unwrap();
        match own.rank(Group::World) {
            1 => own.finish(),
            _ => own.all_reduce(Group::World, vec![1.0], Wire::F32).wait().map(|_| ()),
        }
    });
    assert!(results.iter().all(|result| matches!(result, Err(Failure::Mismatch { .. }))), "{results:?}");
    assert_eq!(results[0], results[1]);
    let text = results[0].clone().unwrap_err().to_string();
    assert!(
        text.contains("rank 1 called finish")
            && text.contains("all-reduce of 1 values in f32 as its collective 2"),
        "{text}"
    );
}

#[test]
fn a_rank_that_panics_in_the_middle_ends_all_at_once() {
    let begun = Instant::now();
    let results = run(4, &Options { per_machine: Some(2), ..patient() }, |own| {
        for update in 0..10 {
            own.all_reduce(Group::Machine, vec![1.0; 100], Wire::F32).wait()?;
            assert!(own.rank(Group::World) != 2 || update < 5, "an expected panic");
            own.all_reduce(Group::Peers, vec![1.0; 100], Wire::F1_6_9).wait()?;
        }
        own.finish()
    });
    for (rank, result) in results.into_iter().enumerate() {
        match result {
            Err(_) => assert_eq!(rank, 2),
            Ok(result) => assert_eq!(result, Err(Failure::Panicked { rank: 2 })),
        }
    }
    assert!(begun.elapsed() < patient().timeout, "they did not wait for the timeout");
}

#[test]
fn an_error_of_one_rank_is_the_error_of_all() {
    let results = run_all(3, &patient(), |own| {
        if own.rank(Group::World) == 2 {
            own.fail("the disk is full; make room");
            return None;
        }
        Some(own.barrier(Group::World).wait().unwrap_err().to_string())
    });
    let expected = Some("rank 2 failed: the disk is full; make room".to_owned());
    assert_eq!(results, [expected.clone(), expected, None]);
}

#[test]
fn a_slow_rank_is_named_after_the_timeout_and_gets_the_same_failure() {
    let options = Options { timeout: Duration::from_millis(300), ..Options::default() };
    let (noticed, wait) = channel();
    let wait = std::sync::Mutex::new(wait);
    let results = run_all(3, &options, |own| {
        if own.rank(Group::World) == 1 {
            // Slower than any limit: until both others have given up.
            let wait = wait.lock().unwrap();
            wait.recv().unwrap();
            wait.recv().unwrap();
        }
        let result = own.all_reduce(Group::World, vec![1.0], Wire::F32).wait();
        noticed.clone().send(()).unwrap();
        result.unwrap_err()
    });
    assert!(matches!(&results[0], Failure::Late { missing, .. } if missing == "rank 1"), "{results:?}");
    assert!(results.iter().all(|result| *result == results[0]));
    let text = results[0].to_string();
    assert!(text.contains("waited 0.3 s for rank 1 to call all-reduce of 1 values"), "{text}");
}

/// What one rank calls.
type Collective = fn(&Communicator) -> Result<(), Failure>;

#[test]
fn lengths_and_collectives_that_do_not_match_are_refused_by_all() {
    let calls: [Collective; 4] = [
        |own| {
            own.all_reduce(Group::World, vec![0.0; 5 + own.rank(Group::World)], Wire::F32).wait().map(|_| ())
        },
        |own| {
            let wire = if own.rank(Group::World) == 0 { Wire::F16 } else { Wire::Bf16 };
            own.reduce_scatter(Group::World, vec![0.0; 5], wire).wait().map(|_| ())
        },
        |own| own.broadcast(Group::World, own.rank(Group::World), vec![1]).wait().map(|_| ()),
        |own| match own.rank(Group::World) {
            0 => own.barrier(Group::World).wait(),
            _ => own.all_gather(Group::World, vec![]).wait().map(|_| ()),
        },
    ];
    for call in calls {
        let results = run_all(2, &patient(), |own| call(&own));
        let failure = results[0].clone().unwrap_err();
        assert!(matches!(failure, Failure::Mismatch { .. }), "{failure}");
        assert_eq!(results[1], Err(failure));
    }
}

#[test]
fn after_a_failure_every_collective_fails_alike() {
    let results = run_all(2, &patient(), |own| {
        if own.rank(Group::World) == 1 {
            return;
        }
        let calls: Vec<_> = (0..3).map(|_| own.barrier(Group::World)).collect();
        for call in calls {
            assert_eq!(call.wait(), Err(Failure::Left { rank: 1 }));
        }
        assert_eq!(own.barrier(Group::Machine).wait(), Err(Failure::Left { rank: 1 }));
        assert_eq!(own.finish(), Err(Failure::Left { rank: 1 }));
    });
    assert_eq!(results.len(), 2);
}

#[test]
fn a_result_that_nobody_waits_for_is_still_computed_for_the_others() {
    let sums = run_all(2, &patient(), |own| {
        let sum = own.all_reduce(Group::World, vec![1.0], Wire::F32);
        let sum = (own.rank(Group::World) == 0).then(|| sum.wait().unwrap());
        own.finish().unwrap();
        sum
    });
    assert_eq!(sums[0], Some(vec![2.0]));
}

#[test]
fn ranks_that_do_not_fill_machines_are_refused() {
    let options = Options { per_machine: Some(2), ..patient() };
    let failure = Communicator::threads(3, &options).err().unwrap();
    assert!(failure.to_string().starts_with("3 ranks with 2 on each machine"), "{failure}");
    assert!(Communicator::threads(0, &patient()).is_err());
}

#[test]
fn a_single_rank_gets_its_own_values_back_as_they_are_sent() {
    let alone = Communicator::alone();
    let expected = everything(&alone).unwrap();
    alone.finish().unwrap();
    let threads = run_all(1, &patient(), |own| everything(&own).unwrap());
    assert_eq!(threads[0], expected);
}

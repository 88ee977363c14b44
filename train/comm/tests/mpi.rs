//! Ranks over MPI: they compute what threads compute, bit for bit, and a rank that fails ends the job with a message.
//!
//! `mpirun` starts this test program again, with the test [`rank`] alone; a variable of the environment says what it plays.

#[cfg(feature = "mpi")]
mod common;

/// What a rank of a job plays.
const ROLE: &str = "DALLE_COMM_TEST_ROLE";

#[cfg(not(feature = "mpi"))]
#[test]
fn mpi_is_not_part_of_this_build() {
    assert!(std::env::var_os(ROLE).is_none(), "started by mpirun, but built without MPI");
    println!("skipped: the tests over MPI need `--features mpi` (see CONTRIBUTING.md)");
}

#[cfg(feature = "mpi")]
mod built {
    use std::process::{Command, Output};
    use std::time::Duration;

    use dalle_comm::{Communicator, Failure, Group, Options, Wire};

    use super::ROLE;
    use super::common::{everything, hash};

    fn options(ranks: usize) -> Options {
        // Two machines of two where there are four ranks.
        let per_machine = (ranks == 4).then_some(2);
        Options { per_machine, timeout: Duration::from_mins(10), ..Options::default() }
    }

    /// Ranks started by mpirun that play a role.
    fn job(ranks: usize, role: &str) -> Output {
        let program = std::env::current_exe().expect("the path of this test program");
        let output = Command::new("mpirun")
            .args(["--oversubscribe", "-n", &ranks.to_string()])
            .arg(program)
            .args(["--exact", "built::rank", "--nocapture"])
            .env(ROLE, role)
            .envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")])
            .output();
        output.expect(
            "mpirun must be in the PATH to test the feature `mpi`: install Debian's package openmpi-bin",
        )
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// One rank of a job, when mpirun starts it; alone it does nothing.
    #[test]
    fn rank() {
        let Ok(role) = std::env::var(ROLE) else { return };
        let ranks: usize = std::env::var("OMPI_COMM_WORLD_SIZE").unwrap().parse().unwrap();
        let mut options = options(ranks);
        match role.as_str() {
            "parts" => options.most_bytes = 4000,
            "slow" => options.timeout = Duration::from_secs(1),
            _ => {}
        }
        let own = Communicator::mpi(&options).unwrap();
        let rank = own.rank(Group::World);
        if role != "slow" {
            own.barrier(Group::World).wait().unwrap();
        }
        match (role.as_str(), rank) {
            ("everything" | "parts", _) => {
                println!("rank {rank} has {:016x}", hash(&everything(&own).unwrap()));
                own.finish().unwrap();
            }
            ("machines", _) => {
                println!("rank {rank} is on a machine of {}", own.size(Group::Machine));
                own.finish().unwrap();
            }
            // Returns early.
            ("leave", 1) => {}
            ("panic", 1) => panic!("an expected panic"),
            ("fail", 1) => own.fail("the disk is full; make room"),
            // Far longer than the other waits, which ends the job.
            ("slow", 1) => std::thread::sleep(Duration::from_mins(10)),
            ("mismatch", 1) => drop(own.all_reduce(Group::World, vec![0.0; 6], Wire::F32).wait()),
            ("finish", 1) => drop(own.finish()),
            _ => {
                let result = own.all_reduce(Group::World, vec![0.0; 5], Wire::F32).wait();
                panic!("the job goes on with {result:?}");
            }
        }
    }

    #[test]
    fn mpi_gives_the_very_bits_of_threads() {
        for ranks in [2, 4] {
            let communicators = Communicator::threads(ranks, &options(ranks)).unwrap();
            let threads = communicators.into_iter().map(|own| {
                std::thread::spawn(move || -> Result<u64, Failure> {
                    own.barrier(Group::World).wait()?;
                    let hash = hash(&everything(&own)?);
                    own.finish()?;
                    Ok(hash)
                })
            });
            let threads: Vec<_> = threads.collect();
            let expected: Vec<u64> =
                threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect();
            for role in ["everything", "parts"] {
                let output = job(ranks, role);
                let (out, error) = (text(&output.stdout), text(&output.stderr));
                assert!(output.status.success(), "{out}{error}");
                for (rank, hash) in expected.iter().enumerate() {
                    let line = format!("rank {rank} has {hash:016x}");
                    assert!(out.contains(&line), "expected {line} of {ranks} ranks, {role}:\n{out}");
                }
            }
        }
    }

    #[test]
    fn processes_that_share_memory_are_one_machine() {
        let output = job(3, "machines");
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout).matches("is on a machine of 3").count(), 3);
    }

    #[test]
    fn a_rank_that_fails_ends_the_job_with_a_message_that_names_it() {
        for (role, message) in [
            ("leave", "rank 1 ended early"),
            ("panic", "rank 1 panicked"),
            ("fail", "rank 1 failed: the disk is full; make room"),
            ("slow", "rank 0 waited 1 s for rank 1 to call all-reduce of 5 values in f32"),
            ("mismatch", "called all-reduce of 6 values in f32"),
            ("finish", "called finish"),
        ] {
            let output = job(2, role);
            let error = text(&output.stderr);
            assert!(!output.status.success(), "{role}");
            assert!(error.contains("dalle: rank ") && error.contains(message), "{role}: {error}");
            assert!(!error.contains("the job goes on"), "{role}: {error}");
        }
    }
}

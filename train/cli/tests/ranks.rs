//! `mpirun -n N dalle prior train`: what several processes train, and how they stop.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod workshop;

#[cfg(not(feature = "mpi"))]
#[test]
fn a_build_without_mpi_refuses_to_be_one_of_several_ranks() {
    // What mpirun sets in each process.
    const RANKS: &str = "OMPI_COMM_WORLD_SIZE";
    let workshop = workshop::Workshop::new();
    workshop.run(&workshop.dvae("model", 2, ""));
    let output = workshop.command(&workshop.prior("model", 2)).env(RANKS, "4").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("this is one of 4 ranks"), "{said}");
    assert!(said.contains("--features mpi"), "{said}");
    assert!(!workshop.path("model-prior").exists(), "nothing is written");
    // One rank needs no MPI.
    let output = workshop.command(&workshop.prior("model", 2)).env(RANKS, "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[cfg(feature = "mpi")]
mod over_mpi {
    use std::collections::BTreeMap;
    use std::fs;
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::workshop::{Workshop, start, wait_until};

    /// `dalle` with these arguments, as several ranks. Before rank 1 starts, `first` is run in its shell.
    fn ranks(workshop: &Workshop, count: usize, first: &str, arguments: &str) -> Command {
        let dalle = workshop.command("");
        let program = dalle.get_program().to_str().unwrap().to_owned();
        let script =
            format!("[ \"$OMPI_COMM_WORLD_RANK\" = 1 ] && {{ {first}; }}; exec {program} {arguments}");
        let mut command = Command::new("mpirun");
        command
            .args(["--oversubscribe", "-n", &count.to_string(), "bash", "-c", &script])
            .envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")])
            .env("RAYON_NUM_THREADS", "1");
        command
    }

    fn run(workshop: &Workshop, count: usize, arguments: &str) {
        let output = ranks(workshop, count, ":", arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout).matches("wrote").count(), 1, "one rank writes");
    }

    /// Logged values by name, without times.
    fn history(workshop: &Workshop, run: &str) -> BTreeMap<String, Vec<(u64, f64)>> {
        serde_json::from_value(workshop.state(run)["history"].take()).unwrap()
    }

    #[test]
    fn ranks_train_what_one_process_does_and_continue_in_any_number() {
        let workshop = Workshop::new();
        run(&workshop, 2, &workshop.dvae("model", 6, "--log-every 2"));
        workshop.run(&workshop.dvae("alone", 6, "--log-every 2"));
        let close = |ours: &str, expected: &str| {
            let (ours, expected) = (history(&workshop, ours), history(&workshop, expected));
            for (name, values) in &expected {
                for ((step, value), (at, expected)) in ours[name].iter().zip(values) {
                    let error = (value - expected).abs() / expected.abs().max(1.0);
                    assert!(step == at && error < 2e-4, "{name} {value} after {step}, expected {expected}");
                }
            }
        };
        close("model-run", "alone-run");
        let prior = |run: &str, steps: u64, more: &str| {
            let own = format!("{}-prior", workshop.path("model").display());
            let command =
                workshop.prior("model", 12).replace(&own, &workshop.path(run).display().to_string());
            format!("{command} --log-every 2 --overwrite {more}")
                .replace("--steps 12", &format!("--steps {steps}"))
        };
        workshop.run(&prior("one", 12, "--learning-rate-updates 12"));
        for count in [2, 3] {
            let name = format!("ranks-{count}");
            run(&workshop, count, &prior(&name, 12, "--learning-rate-updates 12"));
            close(&name, "one");
        }
        // With other numbers of ranks in turn.
        run(&workshop, 3, &prior("turns", 4, "--learning-rate-updates 12"));
        workshop.run(&prior("turns", 8, "--learning-rate-updates 12"));
        run(&workshop, 2, &prior("turns", 12, "--learning-rate-updates 12"));
        close("turns", "one");
        // Compressed between two machines, of three ranks and then of one.
        let compressed =
            |ranks| format!("--machine-ranks {ranks} --powersgd-rank 4 --learning-rate-updates 12");
        run(&workshop, 6, &prior("compressed", 8, &compressed(3)));
        run(&workshop, 2, &prior("compressed", 12, &compressed(1)));
        assert_eq!(workshop.state("compressed")["updates"], 12);
    }

    #[test]
    fn a_signal_to_one_rank_saves_and_stops_all() {
        let workshop = Workshop::new();
        workshop.run(&workshop.dvae("model", 2, ""));
        let command = format!("{} --save-seconds 0 --log-every 1", workshop.prior("model", 4000));
        let pids = workshop.path("pid");
        let mut job = start(ranks(&workshop, 2, &format!("echo $$ > {}", pids.display()), &command));
        let latest = workshop.path("model-prior/checkpoints/LATEST");
        wait_until("a checkpoint is there", || latest.exists() || job.try_wait().unwrap().is_some());
        let pid = fs::read_to_string(pids).unwrap();
        assert!(Command::new("kill").args(["-USR1", pid.trim()]).status().unwrap().success());
        let begun = Instant::now();
        let output = job.wait_with_output().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(60), "all ranks stop soon");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said.matches("interrupted after update").count(), 1, "{said}");
        let step = workshop.state("model-prior")["step"].as_u64().unwrap();
        assert!(said.contains(&format!("interrupted after update {step} of 4000")), "{said}");
    }

    #[test]
    fn a_killed_rank_ends_the_job_and_the_newest_checkpoint_continues() {
        let workshop = Workshop::new();
        workshop.run(&workshop.dvae("model", 2, ""));
        let command = format!("{} --save-seconds 0", workshop.prior("model", 40));
        let pids = workshop.path("pid");
        let mut job = start(ranks(&workshop, 2, &format!("echo $$ > {}", pids.display()), &command));
        let latest = workshop.path("model-prior/checkpoints/LATEST");
        wait_until("a checkpoint is there", || latest.exists() || job.try_wait().unwrap().is_some());
        let pid = fs::read_to_string(pids).unwrap();
        Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
        let begun = Instant::now();
        assert!(!job.wait().unwrap().success());
        assert!(begun.elapsed() < Duration::from_secs(60), "the other rank does not wait forever");
        run(&workshop, 2, &command);
        assert_eq!(workshop.state("model-prior")["step"], 40);
    }

    #[test]
    fn a_rank_that_cannot_write_ends_the_job_with_a_message_and_the_checkpoint_before_stands() {
        let workshop = Workshop::new();
        workshop.run(&workshop.dvae("model", 2, ""));
        run(&workshop, 2, &workshop.prior("model", 4));
        // As on a full disk: files of more than 100 KB cannot be written.
        let full = "ulimit -f 100; trap '' XFSZ";
        let output = ranks(&workshop, 2, full, &workshop.prior("model", 8)).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert!(said.contains("rank 1 cannot write its part of a checkpoint"), "{said}");
        assert_eq!(workshop.state("model-prior")["step"], 4);
        run(&workshop, 2, &workshop.prior("model", 8));
    }

    #[test]
    fn a_rank_that_is_late_or_has_another_batch_ends_the_job_with_a_message() {
        let workshop = Workshop::new();
        workshop.run(&workshop.dvae("model", 2, ""));
        let slow = format!("{} --rank-timeout 15", workshop.prior("model", 4000));
        let begun = Instant::now();
        let pids = workshop.path("pid");
        let mut job = start(ranks(&workshop, 2, &format!("echo $$ > {}", pids.display()), &slow));
        let run_folder = workshop.path("model-prior/metrics.jsonl");
        wait_until("training has started", || run_folder.exists() || job.try_wait().unwrap().is_some());
        let pid = fs::read_to_string(pids).unwrap();
        Command::new("kill").args(["-STOP", pid.trim()]).status().unwrap();
        wait_until("the job has ended", || {
            let ended = job.try_wait().unwrap().is_some();
            if begun.elapsed() > Duration::from_secs(60) {
                Command::new("kill").args(["-CONT", pid.trim()]).status().unwrap();
            }
            ended
        });
        let said = String::from_utf8(job.wait_with_output().unwrap().stderr).unwrap();
        assert!(said.contains("rank 0 waited 15 s for rank 1"), "{said}");
        let output = ranks(&workshop, 4, ":", &workshop.prior("model", 4)).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("--batch: expected a multiple of the number of ranks, 4, got 6"), "{said}");
    }
}

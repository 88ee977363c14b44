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
    let said = workshop.fail(&format!("{} --nccl", workshop.prior("model", 2)));
    assert!(said.contains("this build of dalle has no NCCL"), "{said}");
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

    use dalle_model::Device;
    use dalle_model::prior::Prior;
    use dalle_train::shards::UpdateTraffic;

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

    /// The lines of a run's `ranks.jsonl`.
    fn rank_lines(workshop: &Workshop, run: &str) -> Vec<serde_json::Value> {
        let lines = fs::read_to_string(workshop.path(run).join("ranks.jsonl")).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn two_machines_of_two_ranks_compress_what_they_send_each_other_and_continue_after_a_kill() {
        let workshop = Workshop::new();
        workshop.run(&workshop.dvae("model", 2, ""));
        let prior = |run: &str, steps: u64, more: &str| {
            let own = format!("{}-prior", workshop.path("model").display());
            let command =
                workshop.prior("model", 16).replace(&own, &workshop.path(run).display().to_string());
            format!(
                "{command} --batch 8 --log-every 4 --learning-rate-updates 16 --machine-ranks 2 --overwrite {more}"
            )
            .replace("--batch 6 ", "")
            .replace("--steps 16", &format!("--steps {steps}"))
        };
        let errors = |run: &str| history(&workshop, run).remove("compression error");
        let losses = |run: &str| history(&workshop, run)["loss"].clone();
        let powersgd = |columns: usize| format!("--powersgd-rank {columns}");
        workshop.run(&prior("one", 16, ""));
        // With as many columns as rows, only what 1-6-9 rounds is lost.
        run(&workshop, 4, &prior("whole", 16, &powersgd(1000)));
        for ((step, loss), (at, expected)) in losses("whole").into_iter().zip(losses("one")) {
            assert!(step == at && (loss - expected).abs() < 5e-3, "{loss} after {step}, expected {expected}");
        }
        // The bytes that are sent are those that are planned.
        run(&workshop, 4, &prior("plain", 16, ""));
        run(&workshop, 4, &prior("undisturbed", 16, &powersgd(2)));
        let text = include_str!("../../../configs/tiny.json");
        let network = Prior::new(&serde_json::from_str(text).unwrap(), &Device::flex());
        for (name, columns) in [("plain", None), ("undisturbed", Some(2))] {
            let planned = UpdateTraffic::of(&network, 2, 2, columns);
            for line in rank_lines(&workshop, name) {
                let of = |key: &str| -> Vec<f64> { serde_json::from_value(line[key].clone()).unwrap() };
                let between = of("bytes_between_machines");
                // And an estimate of the compression error, once for each line.
                let more = between[0] - planned.between_machines as f64;
                let allowed = columns.map_or(0.0, |_| 0.05 * planned.between_machines as f64);
                assert!((0.0..=allowed).contains(&more), "{name}: {more} bytes more than planned: {line}");
                assert_eq!(between[..2], between[2..], "{name}: the same rows of both machines: {line}");
                // Gathering averages to validate or save is not part of an update.
                assert!(
                    of("bytes_in_machine").iter().all(|&sent| sent >= planned.in_machine as f64),
                    "{line}"
                );
            }
        }
        assert_eq!(errors("plain"), None);
        assert!(
            errors("whole").unwrap().iter().all(|(_, error)| *error < 0.05),
            "1-6-9 alone: {:?}",
            errors("whole")
        );
        assert!(errors("undisturbed").unwrap().iter().all(|(_, error)| (0.1..1.0).contains(error)));
        // The same bits again.
        run(&workshop, 4, &prior("again", 16, &powersgd(2)));
        assert_eq!(history(&workshop, "again"), history(&workshop, "undisturbed"));
        // Rank 1 is killed. The same ranks continue, then one machine without PowerSGD, then one process.
        let pids = workshop.path("pid");
        let command = prior("killed", 8, &format!("{} --save-seconds 0", powersgd(2)));
        let mut job = start(ranks(&workshop, 4, &format!("echo $$ > {}", pids.display()), &command));
        let latest = workshop.path("killed/checkpoints/LATEST");
        wait_until("a checkpoint is there", || latest.exists() || job.try_wait().unwrap().is_some());
        let pid = fs::read_to_string(pids).unwrap();
        Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
        job.wait().unwrap();
        run(&workshop, 4, &command);
        run(&workshop, 2, &prior("killed", 12, ""));
        workshop.run(&prior("killed", 16, ""));
        for ((step, loss), (at, expected)) in losses("killed").into_iter().zip(losses("undisturbed")) {
            assert!(step == at && (loss - expected).abs() < 0.02, "{loss} after {step}, expected {expected}");
        }
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

//! Time and memory of the prior's gradients: a tape over the whole network, and resblock by resblock.
//!
//! `cargo bench -p dalle-train --bench engine -- [layers] [width] [batch]`; 4, 256 and 4 by default, which are 8 resblocks. Each way runs in
//! a process of its own. Memory is the greatest resident size of an update above what was there before the first.

use std::process::{Command, exit};
use std::time::Instant;

use dalle_model::Device;
use dalle_model::burn::module::Module;
use dalle_model::config::ModelConfig;
use dalle_model::prior::loss::PriorLoss;
use dalle_model::prior::{Masks, Prior};
use dalle_shared::{ImageToken, TextToken};
use dalle_train::engine::{InMemory, gradients};
use dalle_train::gradients::Gradients;

/// Updates, of which the first are not timed.
const UPDATES: usize = 8;
const WARM: usize = 3;

/// A line of /proc/self/status, in MB.
fn memory(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status
        .lines()
        .find_map(|text| text.strip_prefix(line)?.split_whitespace().next()?.parse::<f64>().ok());
    found.unwrap_or(f64::NAN) / 1024.0
}

/// Seconds of this process on all processors: what other programs take does not count.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: f64 =
        stat.split_whitespace().skip(13).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    ticks / 100.0
}

fn run(way: &str, [layers, width, batch]: [usize; 3]) {
    let text = include_str!("../../configs/bench.json");
    let mut config: ModelConfig = serde_json::from_str(text).expect("configs/bench.json is a configuration");
    config.text_length = 64;
    config.image_size = 128;
    config.prior.layers = layers;
    config.prior.heads = width / 32;
    config.prior.head_dim = 32;
    let device = Device::flex().autodiff();
    let (prior, masks) = (Prior::new(&config, &device), Masks::new(&config, &device));
    let captions: Vec<Vec<TextToken>> = (0..batch).map(|i| vec![TextToken(i as u32 + 5); 20]).collect();
    let images: Vec<Vec<ImageToken>> = (0..batch).map(|i| vec![ImageToken(i as u16); 256]).collect();
    let captions: Vec<&[TextToken]> = captions.iter().map(Vec::as_slice).collect();
    let images: Vec<&[ImageToken]> = images.iter().map(Vec::as_slice).collect();
    let targets: Vec<_> = captions.iter().copied().map(Some).collect();
    // Parameters are made when they are first used.
    let plain = Masks::new(&config, &Device::flex());
    drop(prior.valid().forward(&plain, &captions, &images));
    let before = memory("VmRSS:");
    let mut times = Vec::new();
    for _ in 0..UPDATES {
        let (begun, processor) = (Instant::now(), processor_seconds());
        if way == "tape" {
            let logits = prior.forward(&masks, &captions, &images).expect("tokens of the prior");
            drop(Gradients::of(&PriorLoss::new(logits, &targets, &images).total(), &prior));
        } else {
            let mut all = Gradients::default();
            let pass = gradients(
                &prior,
                &mut InMemory::new(&prior),
                &masks,
                (&captions, &images),
                &vec![8192.0; 2 * layers],
                |logits| (PriorLoss::new(logits, &targets, &images).total(), ()),
                &mut |resblock| {
                    for (path, gradient) in resblock.gradients.iter() {
                        all.insert(path.to_owned(), gradient.clone());
                    }
                    Ok(())
                },
            );
            all.add(pass.expect("a pass in memory").outer);
        }
        times.push((processor_seconds() - processor, begun.elapsed().as_secs_f64()));
    }
    let best = |time: fn(&(f64, f64)) -> f64| times[WARM..].iter().map(time).fold(f64::MAX, f64::min);
    println!(
        "{way:8} {:8.2} s of processors {:8.2} s {:8.0} MB",
        best(|time| time.0),
        best(|time| time.1),
        memory("VmHWM:") - before
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let mut sizes = [4, 256, 4];
    let numbers = arguments.iter().filter_map(|argument| argument.parse().ok());
    sizes.iter_mut().zip(numbers).for_each(|(size, number)| *size = number);
    if let Some(way) = arguments.iter().find(|argument| ["tape", "engine"].contains(&argument.as_str())) {
        run(way, sizes);
        return;
    }
    let program = std::env::current_exe().expect("the path of this program");
    println!("{} layers, width {}, batch {}", sizes[0], sizes[1], sizes[2]);
    for way in ["tape", "engine"] {
        let sizes = sizes.map(|size| size.to_string());
        let status = Command::new(&program).arg(way).args(sizes).status().expect("this program starts again");
        if !status.success() {
            exit(1);
        }
    }
}

//! Which gradient scales are usable in 16 bits: the error of each resblock's gradients in f16, against f32, at scales from 2⁻¹² to 2⁴⁰.
//!
//! `cargo bench -p dalle-train --bench scales -- MODEL`, where MODEL is a model folder with a prior. Pairs have random tokens.
//! A scale is usable for a resblock if the error, the norm of the difference divided by the norm, is at most 1 %.

use std::collections::BTreeMap;
use std::process::exit;

use dalle_model::Device;
use dalle_model::burn::tensor::Tensor;
use dalle_model::precision::Precision;
use dalle_model::prior::loss::PriorLoss;
use dalle_model::prior::{Masks, Prior};
use dalle_native::ModelFolder;
use dalle_shared::{ImageToken, TextToken};
use dalle_train::engine::{InMemory, gradients};

/// Pairs.
const BATCH: usize = 2;
/// Exponents of the scales.
const EXPONENTS: std::ops::RangeInclusive<i32> = -12..=40;
/// Difference of two exponents.
const STEP: usize = 2;
/// Greatest error of a usable scale.
const USABLE: f64 = 0.01;

/// Flat gradients of each resblock, in the order of their paths.
type Found = BTreeMap<usize, Vec<Tensor<1>>>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [folder] = &arguments[..] else {
        eprintln!("expected one argument: a model folder with a prior");
        exit(2);
    };
    if let Err(error) = measure(folder) {
        eprintln!("{error:#}");
        exit(1);
    }
}

fn measure(folder: &str) -> anyhow::Result<()> {
    let model = ModelFolder::open(folder.as_ref())?;
    let (config, device) = (&model.config, Device::flex().autodiff());
    let prior = model.prior(&device, Precision::F32)?;
    let masks = Masks::new(config, &device);
    let geometry = config.geometry();
    let token =
        |pair: usize, place: usize, vocab: usize| (pair * 7919 + place * place * 31 + 17 * place) % vocab;
    let captions: Vec<Vec<TextToken>> = (0..BATCH)
        .map(|pair| (0..8).map(|place| TextToken(token(pair, place, config.text_vocab) as u32)).collect())
        .collect();
    let images: Vec<Vec<ImageToken>> = (0..BATCH)
        .map(|pair| {
            let places = 0..geometry.image_length();
            places.map(|place| ImageToken(token(pair, place, geometry.image_vocab) as u16)).collect()
        })
        .collect();
    let captions: Vec<&[TextToken]> = captions.iter().map(Vec::as_slice).collect();
    let images: Vec<&[ImageToken]> = images.iter().map(Vec::as_slice).collect();
    let targets: Vec<_> = captions.iter().copied().map(Some).collect();
    let resblocks = 2 * config.prior.layers;
    let of = |precision: Precision, scales: &[f32]| -> anyhow::Result<Found> {
        let matrices: Prior = prior.clone().with_precision(precision);
        let mut found = Found::new();
        gradients(
            &prior,
            &mut InMemory::new(&matrices),
            &masks,
            (&captions, &images),
            scales,
            |logits| (PriorLoss::new(logits, &targets, &images).total(), ()),
            &mut |resblock| {
                let index = resblock.index;
                let own = resblock.unscaled();
                found.insert(index, own.iter().map(|(_, gradient)| gradient.clone()).collect());
                Ok(())
            },
        )?;
        Ok(found)
    };
    let exact = of(Precision::F32, &vec![1.0; resblocks])?;
    let errors = |found: &Found| -> Vec<f64> {
        (0..resblocks).map(|index| error(&found[&index], &exact[&index])).collect()
    };
    // For each resblock, its error at each scale.
    let mut table: Vec<Vec<(i32, f64)>> = vec![Vec::new(); resblocks];
    for exponent in EXPONENTS.step_by(STEP) {
        let all = errors(&of(Precision::F16, &vec![2f32.powi(exponent); resblocks])?);
        table.iter_mut().zip(all).for_each(|(row, error)| row.push((exponent, error)));
    }
    println!("resblock     norm of gradients   usable scales, log2");
    let (mut common, mut best) = ((i32::MIN, i32::MAX), Vec::new());
    for (index, row) in table.iter().enumerate() {
        let usable: Vec<i32> =
            row.iter().filter(|(_, error)| *error <= USABLE).map(|(exponent, _)| *exponent).collect();
        let (low, high) = (usable.first().copied(), usable.last().copied());
        let kind = if index.is_multiple_of(2) { "attention" } else { "mlp" };
        let range = low.zip(high).map_or("none".to_owned(), |(low, high)| format!("{low} to {high}"));
        println!("{:>3} {kind:9} {:>16.3e}   {range}", index / 2, norm(&exact[&index]));
        common = (common.0.max(low.unwrap_or(i32::MAX)), common.1.min(high.unwrap_or(i32::MIN)));
        best.push(low.zip(high).map_or(0, |(low, high)| (low + high) / 2));
    }
    match common {
        (low, high) if low <= high => println!("usable for all resblocks: {low} to {high}"),
        _ => println!("no scale is usable for all resblocks"),
    }
    let worst = |scales: Vec<f32>| -> anyhow::Result<f64> {
        Ok(errors(&of(Precision::F16, &scales)?).into_iter().fold(0.0, f64::max))
    };
    println!("greatest error of a resblock:");
    println!("  no scale               {:.2e}", worst(vec![1.0; resblocks])?);
    println!("  2^13 for all           {:.2e}", worst(vec![8192.0; resblocks])?);
    let of_all = |exponent: usize| table.iter().map(|row| row[exponent].1).fold(0.0, f64::max);
    let least = (0..table[0].len()).map(of_all).fold(f64::INFINITY, f64::min);
    println!("  the best one for all   {least:.2e}");
    println!(
        "  the middle of its own  {:.2e}",
        worst(best.into_iter().map(|exponent| 2f32.powi(exponent)).collect())?
    );
    Ok(())
}

fn norm(gradients: &[Tensor<1>]) -> f64 {
    let squares = |gradient: &Tensor<1>| -> f64 {
        gradient.clone().into_data().iter::<f32>().map(|value| f64::from(value).powi(2)).sum()
    };
    gradients.iter().map(squares).sum::<f64>().sqrt()
}

/// The norm of the difference, divided by the norm; 1 if a gradient is not finite, since its update is skipped.
fn error(found: &[Tensor<1>], exact: &[Tensor<1>]) -> f64 {
    let differences: Vec<Tensor<1>> =
        found.iter().zip(exact).map(|(found, exact)| found.clone() - exact.clone()).collect();
    let error = norm(&differences) / norm(exact);
    if error.is_finite() { error } else { 1.0 }
}

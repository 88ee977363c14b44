//! Gradients by parameter, the interface between the backward pass and the optimizer.
//!
//! They come from Burn's autodiff ([`Gradients::of`]) or from a hand-written backward pass ([`Gradients::insert`]), and can be
//! accumulated over parts of a batch ([`Gradients::add`]).

use std::collections::BTreeMap;

use dalle_model::burn::module::{Module, ModuleVisitor, Param};
use dalle_model::burn::tensor::{Gradients as Tape, Tensor};
use dalle_model::weights::name;

/// Gradients by parameter path (`groups.1.0.res_path.conv_2.w`), each flat in row-major order, `[values]`, without autodiff. A
/// parameter that the loss does not depend on has none.
#[derive(Clone, Debug, Default)]
pub struct Gradients {
    values: BTreeMap<String, Tensor<1>>,
    /// The sum of the squares of all values, if it is known.
    squares: Option<f64>,
}

impl Gradients {
    /// Runs the backward pass of `loss`, `[1]`, and collects the gradients of all parameters of `network`. Consumes the tape.
    pub fn of<M: Module>(loss: &Tensor<1>, network: &M) -> Self {
        Self::collect(loss.backward(), network)
    }

    /// Collects the gradients of all parameters of `network` from the tape of a backward pass.
    pub(crate) fn collect<M: Module>(tape: Tape, network: &M) -> Self {
        Self::collect_part(tape, network, Vec::new())
    }

    /// The same of a part of a network, which is at `path` in it.
    pub(crate) fn collect_part<M: Module>(tape: Tape, network: &M, path: Vec<String>) -> Self {
        let mut collector = Collector { tape, path, found: BTreeMap::new() };
        network.visit(&mut collector);
        Self { values: collector.found, squares: None }
    }

    /// Gradients whose squares add up to `squares`.
    pub(crate) fn with_squares(values: BTreeMap<String, Tensor<1>>, squares: f64) -> Self {
        Self { values, squares: Some(squares) }
    }

    /// The norm of all gradients together.
    pub fn norm(&self) -> f64 {
        if let Some(squares) = self.squares {
            return squares.sqrt();
        }
        let sums: Vec<Tensor<1>> =
            self.values.values().map(|gradient| gradient.clone().square().sum()).collect();
        if sums.is_empty() {
            return 0.0;
        }
        f64::from(Tensor::cat(sums, 0).sum().into_scalar::<f32>()).sqrt()
    }

    /// Sets the gradient of the parameter at `path`.
    pub fn insert(&mut self, path: String, gradient: Tensor<1>) {
        self.squares = None;
        self.values.insert(path, gradient);
    }

    /// The gradient of the parameter at `path`.
    pub fn get(&self, path: &str) -> Option<&Tensor<1>> {
        self.values.get(path)
    }

    /// Removes the gradient of the parameter at `path`.
    pub fn remove(&mut self, path: &str) -> Option<Tensor<1>> {
        self.squares = None;
        self.values.remove(path)
    }

    /// Adds other gradients of the same network.
    pub fn add(&mut self, other: Self) {
        self.squares = None;
        for (path, gradient) in other.values {
            let sum = match self.values.remove(&path) {
                Some(own) => own + gradient,
                None => gradient,
            };
            self.values.insert(path, sum);
        }
    }

    /// Replaces each gradient, in the order of their paths.
    #[must_use]
    pub fn map(self, mut change: impl FnMut(&str, Tensor<1>) -> Tensor<1>) -> Self {
        let changed = self.values.into_iter().map(|(path, gradient)| (path.clone(), change(&path, gradient)));
        Self { values: changed.collect(), squares: None }
    }

    /// Paths and gradients, in the order of the paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor<1>)> {
        self.values.iter().map(|(path, gradient)| (path.as_str(), gradient))
    }
}

struct Collector {
    tape: Tape,
    path: Vec<String>,
    found: BTreeMap<String, Tensor<1>>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad_remove(&mut self.tape) {
            let length = gradient.shape().num_elements();
            self.found.insert(name(&self.path), gradient.reshape([length]));
        }
    }
}

/// Asserts that two sets of gradients are equal up to rounding.
#[cfg(test)]
pub(crate) fn assert_close(ours: &Gradients, expected: &Gradients) {
    let paths = |gradients: &Gradients| gradients.iter().map(|(path, _)| path.to_owned()).collect::<Vec<_>>();
    assert_eq!(paths(ours), paths(expected));
    for (path, expected) in expected.iter() {
        let greatest = |x: Tensor<1>| x.abs().max().into_scalar::<f32>();
        let error = ours.get(path).map(|ours| greatest(ours.clone() - expected.clone()));
        let scale = greatest(expected.clone());
        assert!(error.is_some_and(|error| error <= 2e-5 * scale + 1e-9), "{path}: {error:?} of {scale}");
    }
}

#[cfg(test)]
mod tests {
    use dalle_model::Device;
    use dalle_model::burn::nn::{Linear, LinearConfig};

    use super::*;

    #[test]
    fn gradients_have_the_paths_of_their_parameters_and_add_up() {
        let _random = crate::DEVICE_RANDOM.lock();
        let device = Device::flex().autodiff();
        let layers: Vec<Linear> = (0..2).map(|_| LinearConfig::new(2, 3).init(&device)).collect();
        let of = |x: [f32; 2]| {
            let x = Tensor::<2>::from_floats([x], &device);
            Gradients::of(&layers[1].forward(x).sum(), &layers)
        };
        let values = |gradients: &Gradients, path: &str| -> Vec<f32> {
            gradients.get(path).unwrap().clone().into_data().iter().collect()
        };
        let mut sum = of([1.0, 2.0]);
        assert!(sum.get("0.weight").is_none(), "the loss does not depend on this weight");
        assert_eq!(values(&sum, "1.weight"), [1.0, 1.0, 1.0, 2.0, 2.0, 2.0], "row by row");
        sum.add(of([10.0, 20.0]));
        assert_eq!(values(&sum, "1.weight"), [11.0, 11.0, 11.0, 22.0, 22.0, 22.0]);
        // Three times 11² + 22² of the weights, and 2² of the biases.
        let squares = 3.0 * (121.0 + 484.0) + 3.0 * 4.0;
        assert!((sum.norm() - f64::sqrt(squares)).abs() < 1e-4, "{}", sum.norm());
        assert_eq!(Gradients::default().norm(), 0.0);
    }
}

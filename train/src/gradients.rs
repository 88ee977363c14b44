//! Gradients of a network by parameter: what lies between the backward pass and the optimizer.
//!
//! Anything may produce or change them: Burn's autodiff ([`Gradients::of`]), a backward pass written by hand
//! ([`Gradients::insert`]), accumulation over parts of a batch ([`Gradients::add`]), or a sum over processes
//! ([`Gradients::map`]).

use std::collections::BTreeMap;

use dalle_model::burn::module::{Module, ModuleVisitor, Param};
use dalle_model::burn::tensor::{Gradients as Tape, Tensor};

/// Gradients by the path of their parameter (`groups.1.0.res_path.conv_2.w`), each flat in row-major order, `[parameters]`, without
/// autodiff. A parameter that the loss does not depend on has none.
#[derive(Clone, Debug, Default)]
pub struct Gradients(BTreeMap<String, Tensor<1>>);

impl Gradients {
    /// The gradients of `loss`, `[1]`, with respect to all parameters of `network`: runs the backward pass, which consumes the tape.
    pub fn of<M: Module>(loss: &Tensor<1>, network: &M) -> Self {
        Self::collect(loss.backward(), network)
    }

    /// The gradients with respect to all parameters of `network` that a backward pass left on its tape.
    pub(crate) fn collect<M: Module>(tape: Tape, network: &M) -> Self {
        let mut collector = Collector { tape, path: Vec::new(), found: BTreeMap::new() };
        network.visit(&mut collector);
        Self(collector.found)
    }

    /// Sets the gradient of the parameter at `path`.
    pub fn insert(&mut self, path: String, gradient: Tensor<1>) {
        self.0.insert(path, gradient);
    }

    /// The gradient of the parameter at `path`.
    pub fn get(&self, path: &str) -> Option<&Tensor<1>> {
        self.0.get(path)
    }

    /// Removes the gradient of the parameter at `path`.
    pub fn remove(&mut self, path: &str) -> Option<Tensor<1>> {
        self.0.remove(path)
    }

    /// Adds other gradients of the same network.
    pub fn add(&mut self, other: Self) {
        for (path, gradient) in other.0 {
            let sum = match self.0.remove(&path) {
                Some(own) => own + gradient,
                None => gradient,
            };
            self.0.insert(path, sum);
        }
    }

    /// The gradients with each replaced, in the order of their paths.
    #[must_use]
    pub fn map(self, mut change: impl FnMut(&str, Tensor<1>) -> Tensor<1>) -> Self {
        Self(self.0.into_iter().map(|(path, gradient)| (path.clone(), change(&path, gradient))).collect())
    }

    /// Paths and gradients, in the order of the paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor<1>)> {
        self.0.iter().map(|(path, gradient)| (path.as_str(), gradient))
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
            self.found.insert(self.path.join("."), gradient.reshape([length]));
        }
    }
}

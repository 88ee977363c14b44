//! Parameters and gradients as one slice, the layout of `dalle-kernels`. They are copied on all threads.

use dalle_kernels::adamw::sum_of_squares;
use dalle_kernels::parameters::Parameter;
use dalle_model::Device;
use dalle_model::burn::module::{Module, ModuleVisitor, Param};
use dalle_model::burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use crate::gradients::Gradients;

/// Splits a slice of gradients by parameter path. The gradients are on the CPU.
pub(crate) fn gradients(parameters: &[Parameter], values: &[f32]) -> Gradients {
    let device = Device::flex();
    let squares = sum_of_squares(values);
    let gradient = |parameter: &Parameter| {
        let length = parameter.length();
        let values = values[parameter.offset..][..length].to_vec();
        (parameter.name.clone(), Tensor::from_data(TensorData::new(values, [length]), &device))
    };
    let gradients: Vec<(String, Tensor<1>)> = parameters.par_iter().map(gradient).collect();
    Gradients::with_squares(gradients.into_iter().collect(), squares)
}

/// Replaces `values` by those of all parameters, in the module's order, which is that of `dalle-kernels`.
pub(crate) fn read(module: &impl Module, values: &mut Vec<f32>) {
    let mut parts = Parts(Vec::new());
    module.visit(&mut parts);
    values.resize(parts.0.iter().map(|(length, _)| length).sum(), 0.0);
    let (mut tasks, mut rest) = (Vec::new(), &mut values[..]);
    for (length, part) in parts.0 {
        let (own, others) = rest.split_at_mut(length);
        tasks.push((own, part));
        rest = others;
    }
    tasks.into_par_iter().for_each(|(values, part)| {
        let data = part();
        match data.as_slice() {
            Ok(slice) => values.copy_from_slice(slice),
            Err(_) => values.iter_mut().zip(data.iter()).for_each(|(value, new)| *value = new),
        }
    });
}

/// Reads one parameter.
type Part = Box<dyn FnOnce() -> TensorData + Send>;

/// Lengths of parameters, and the parameters.
struct Parts(Vec<(usize, Part)>);

impl ModuleVisitor for Parts {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        self.0.push((tensor.shape().num_elements(), Box::new(move || tensor.into_data())));
    }
}

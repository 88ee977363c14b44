//! A module's parameters and gradients as one slice, the layout of `dalle-kernels`.

use dalle_kernels::parameters::Parameter;
use dalle_model::Device;
use dalle_model::burn::module::{Module, ModuleVisitor, Param};
use dalle_model::burn::tensor::{Tensor, TensorData};

use crate::gradients::Gradients;

/// Replaces `values` by the values of all parameters, in the module's order.
pub(crate) fn read(module: &impl Module, values: &mut Vec<f32>) {
    struct Read<'a>(&'a mut Vec<f32>);
    impl ModuleVisitor for Read<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let data = param.val().into_data();
            match data.as_slice::<f32>() {
                Ok(slice) => self.0.extend_from_slice(slice),
                Err(_) => self.0.extend(data.iter::<f32>()),
            }
        }
    }
    values.clear();
    module.visit(&mut Read(values));
}

/// Splits a slice of gradients by parameter path. The gradients are on the CPU.
pub(crate) fn gradients(parameters: &[Parameter], values: &[f32]) -> Gradients {
    let device = Device::flex();
    let mut gradients = Gradients::default();
    for parameter in parameters {
        let length = parameter.length();
        let values = values[parameter.offset..][..length].to_vec();
        gradients
            .insert(parameter.name.clone(), Tensor::from_data(TensorData::new(values, [length]), &device));
    }
    gradients
}

//! Gradients as one slice, the layout of `dalle-kernels`.

use dalle_kernels::parameters::Parameter;
use dalle_model::Device;
use dalle_model::burn::tensor::{Tensor, TensorData};

use crate::gradients::Gradients;

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

//! Which rows of which parameters a rank holds.

use std::ops::Range;

use dalle_comm::share;
use dalle_model::burn::module::{Module, ModuleVisitor, Param};
use dalle_model::burn::tensor::{Tensor, TensorData};
use dalle_model::weights::name;

/// A parameter, split along its first axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SplitParameter {
    /// Its path in the network.
    pub path: String,
    /// Its whole shape.
    pub shape: Vec<usize>,
}

impl SplitParameter {
    /// Length of its first axis.
    pub fn rows(&self) -> usize {
        self.shape[0]
    }

    /// Values of a row.
    pub fn width(&self) -> usize {
        self.shape[1..].iter().product()
    }

    /// Values of the whole parameter.
    pub fn length(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether AdamW decays it: gains and biases have one axis and do not decay.
    pub fn decays(&self) -> bool {
        self.shape.len() > 1
    }
}

/// The rows of one parameter that a rank holds.
pub(crate) struct OwnRows<'a> {
    /// The parameter.
    pub parameter: &'a SplitParameter,
    /// Its rows.
    pub rows: Range<usize>,
    /// Their place among the values of the rank.
    pub values: Range<usize>,
}

impl OwnRows<'_> {
    /// Their place among the values of the parameter.
    pub fn in_parameter(&self) -> Range<usize> {
        let width = self.parameter.width();
        self.rows.start * width..self.rows.end * width
    }
}

/// How the rows of all parameters are dealt out to ranks: each rank gets some rows of each parameter. A rank's values are those of its
/// rows, parameter by parameter in the network's order, padded so that all ranks have equally many.
#[derive(Clone, Debug)]
pub(crate) struct RowLayout {
    parameters: Vec<SplitParameter>,
    ranks: usize,
    part: usize,
}

impl RowLayout {
    /// For the parameters of a network and a number of ranks.
    pub fn of<M: Module>(network: &M, ranks: usize) -> Self {
        let mut finder = Finder { path: Vec::new(), found: Vec::new() };
        network.visit(&mut finder);
        let mut layout = Self { parameters: finder.found, ranks, part: 0 };
        // The first rank has most.
        layout.part = layout.own(0).map(|own| own.values.len()).sum();
        layout
    }

    /// All parameters, in the network's order.
    pub fn parameters(&self) -> &[SplitParameter] {
        &self.parameters
    }

    /// Values of each rank, padding included.
    pub fn part(&self) -> usize {
        self.part
    }

    /// The rows of a rank, parameter by parameter.
    pub fn own(&self, rank: usize) -> impl Iterator<Item = OwnRows<'_>> {
        let mut end = 0;
        self.parameters.iter().map(move |parameter| {
            let rows = share(parameter.rows(), rank, self.ranks);
            let begin = end;
            end += rows.len() * parameter.width();
            OwnRows { parameter, rows, values: begin..end }
        })
    }

    /// The values of all ranks one after the other, from whole parameters, which `of` adds to zeros.
    pub fn deal(&self, mut of: impl FnMut(&SplitParameter) -> Option<Vec<f32>>) -> Vec<f32> {
        let mut dealt = vec![0.0; self.part * self.ranks];
        let mut owners: Vec<_> = (0..self.ranks).map(|rank| self.own(rank)).collect();
        for parameter in &self.parameters {
            let whole = of(parameter);
            for (rank, owner) in owners.iter_mut().enumerate() {
                if let (Some(whole), Some(own)) = (&whole, owner.next()) {
                    let to = rank * self.part + own.values.start;
                    dealt[to..][..own.values.len()].copy_from_slice(&whole[own.in_parameter()]);
                }
            }
        }
        dealt
    }

    /// Whole parameters, in the network's order, from the values of all ranks.
    pub fn collect(&self, dealt: &[f32]) -> Vec<Vec<f32>> {
        let mut whole: Vec<Vec<f32>> =
            self.parameters.iter().map(|parameter| Vec::with_capacity(parameter.length())).collect();
        for (rank, part) in dealt.chunks_exact(self.part).enumerate() {
            for (whole, own) in whole.iter_mut().zip(self.own(rank)) {
                whole.extend_from_slice(&part[own.values]);
            }
        }
        whole
    }
}

/// Values of any type as f32.
pub(super) fn floats(data: TensorData) -> Vec<f32> {
    data.convert::<f32>().try_into_vec().expect("the values were converted to f32")
}

struct Finder {
    path: Vec<String>,
    found: Vec<SplitParameter>,
}

impl ModuleVisitor for Finder {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push(SplitParameter { path: name(&self.path), shape: param.lazy_shape().to_vec() });
    }
}

#[cfg(test)]
mod tests {
    use dalle_model::Device;
    use dalle_model::burn::nn::{Linear, LinearConfig};

    use super::*;

    #[test]
    fn rows_of_all_ranks_together_are_the_parameters() {
        let layers: Vec<Linear> = [(5, 3), (2, 7)]
            .map(|(rows, columns)| LinearConfig::new(rows, columns).init(&Device::flex()))
            .into();
        for ranks in 1..9 {
            let layout = RowLayout::of(&layers, ranks);
            let whole = |parameter: &SplitParameter| {
                (0..parameter.length()).map(|i| (parameter.path.len() * 100 + i) as f32).collect::<Vec<_>>()
            };
            let dealt = layout.deal(|parameter| Some(whole(parameter)));
            assert_eq!(dealt.len(), ranks * layout.part());
            let expected: Vec<Vec<f32>> = layout.parameters().iter().map(whole).collect();
            assert_eq!(layout.collect(&dealt), expected, "{ranks} ranks");
            let values: usize =
                (0..ranks).flat_map(|rank| layout.own(rank)).map(|own| own.values.len()).sum();
            assert_eq!(values, 5 * 3 + 3 + 2 * 7 + 7);
        }
    }
}

//! Sums of a rank's rows of the gradients over machines, compressed by PowerSGD.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Result, ensure};
use dalle_comm::{Communicator, Failure, Group, Wire};
use dalle_model::Device;
use dalle_model::burn::tensor::{Tensor, TensorData};

use super::layout::{OwnRows, RowLayout, floats};
use crate::power_sgd::{Config, PowerSgd};

/// The error buffer of a whole parameter: its path, its shape and its values.
pub(super) type WholeError = (String, [usize; 2], Vec<f32>);

/// A matrix whose rows a rank has.
struct OwnMatrix {
    path: String,
    /// Its place among the values of the rank.
    values: Range<usize>,
    /// Its place among the values of the whole parameter.
    in_parameter: Range<usize>,
    /// Values of the whole parameter.
    whole: usize,
    shape: [usize; 2],
}

impl OwnMatrix {
    fn of(own: &OwnRows<'_>) -> Self {
        Self {
            path: own.parameter.path.clone(),
            values: own.values.clone(),
            in_parameter: own.in_parameter(),
            whole: own.parameter.length(),
            shape: [own.rows.len(), own.parameter.width()],
        }
    }

    /// Rows of the parameter's error buffer, as PowerSGD keeps them.
    fn kept(&self, rows: Vec<f32>) -> Vec<f32> {
        let [height, width] = self.shape;
        if self.is_transposed() { transposed(&rows, height, width) } else { rows }
    }

    /// This rank's rows of the whole parameter's error buffer, as PowerSGD keeps them.
    fn rows_of(&self, whole: &TensorData) -> Result<Vec<f32>> {
        ensure!(
            whole.num_elements() == self.whole,
            "the checkpoint's error buffer of `{}` has {} values, expected {}; it belongs to another configuration",
            self.path,
            whole.num_elements(),
            self.whole
        );
        Ok(self.kept(floats(whole.clone())[self.in_parameter.clone()].to_vec()))
    }

    /// PowerSGD's buffers have the shorter side first.
    fn is_transposed(&self) -> bool {
        self.shape[0] > self.shape[1]
    }
}

/// The error buffers of a rank and what they are of.
pub(super) struct Compression {
    power_sgd: PowerSgd,
    /// The matrices of each resblock.
    resblocks: Vec<Vec<OwnMatrix>>,
    /// The other values of the rank.
    rest: Vec<Range<usize>>,
    /// The sum of squares of the last update's decompressed gradients.
    sent: f64,
}

/// The resblock that a parameter of the prior belongs to, if it is a matrix that is compressed: all but embeddings, unembeddings, gains and
/// biases.
pub(super) fn resblock(path: &str, axes: usize) -> Option<usize> {
    let (layer, rest) = path.strip_prefix("blocks.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let second = usize::from(rest.starts_with("fc"));
    (axes == 2).then_some(2 * layer + second)
}

impl Compression {
    /// For a rank's rows of the parameters.
    pub fn new(config: Config, machines: usize, layout: &RowLayout, rank: usize) -> Self {
        let (mut resblocks, mut rest) = (BTreeMap::<usize, Vec<OwnMatrix>>::new(), Vec::new());
        let mut end = 0;
        for own in layout.own(rank) {
            end = own.values.end;
            match resblock(&own.parameter.path, own.parameter.shape.len()) {
                Some(index) if !own.rows.is_empty() => {
                    resblocks.entry(index).or_default().push(OwnMatrix::of(&own));
                }
                _ => rest.push(own.values),
            }
        }
        rest.push(end..layout.part());
        let resblocks: Vec<_> = resblocks.into_values().collect();
        let shapes: Vec<Vec<[usize; 2]>> =
            resblocks.iter().map(|matrices| matrices.iter().map(|matrix| matrix.shape).collect()).collect();
        let power_sgd = PowerSgd::new(config, machines, &shapes, &Device::flex());
        Self { power_sgd, resblocks, rest, sent: 0.0 }
    }

    /// Replaces this machine's gradients by their sums over machines. Returns the sum of squares of the result, which is infinite if a
    /// gradient was not finite.
    pub fn sum(&mut self, own: &mut [f32], communicator: &Communicator) -> Result<f64, Failure> {
        let mut projected = Vec::new();
        // As a backward pass hands them over: while one resblock is sent, those before it are multiplied.
        for (index, matrices) in self.resblocks.iter().enumerate().rev() {
            let gradients = matrices.iter().map(|matrix| {
                let data = TensorData::new(own[matrix.values.clone()].to_vec(), matrix.shape);
                Tensor::from_data(data, &Device::flex())
            });
            self.power_sgd.add(index, gradients.collect(), 1.0);
            projected.push(self.power_sgd.project(index, communicator));
        }
        let rest = self.rest.iter().flat_map(|range| own[range.clone()].iter().copied()).collect();
        let rest = communicator.all_reduce(Group::Peers, rest, Wire::F32);
        let mut factored = Vec::new();
        for projected in projected {
            factored.push(self.power_sgd.factor(projected, communicator)?);
        }
        let rest = rest.wait()?;
        let mut squares: f64 = rest.iter().map(|value| f64::from(*value).powi(2)).sum();
        let mut values = rest.as_slice();
        for range in &self.rest {
            let (these, others) = values.split_at(range.len());
            own[range.clone()].copy_from_slice(these);
            values = others;
        }
        self.sent = 0.0;
        for factored in factored {
            let decompressed = self.power_sgd.decompress(factored)?;
            self.sent += decompressed.squares;
            for (matrix, gradient) in self.resblocks[decompressed.index].iter().zip(decompressed.gradients) {
                own[matrix.values.clone()].copy_from_slice(&floats(gradient.into_data()));
            }
        }
        squares += self.sent;
        Ok(squares)
    }

    /// Sums of squares of this rank's matrices, summed over machines, after update `number`: of what was left in error buffers
    /// (estimated), and of what was sent. They are orthogonal, so the sum of both is that of all there was to send.
    pub fn left_and_sent(&self, number: u64, communicator: &Communicator) -> Result<[f64; 2], Failure> {
        Ok([self.power_sgd.squares_left(number, communicator)?, self.sent])
    }

    /// Adds the sums of the error buffers over machines to summed gradients, and ends.
    pub fn flush(self, own: &mut [f32], communicator: &Communicator) -> Result<(), Failure> {
        let errors = self.errors(communicator)?;
        for (matrix, (_, _, error)) in self.resblocks.iter().flatten().zip(errors) {
            for (own, error) in own[matrix.values.clone()].iter_mut().zip(error) {
                *own += error;
            }
        }
        Ok(())
    }

    /// The sums of the error buffers over machines, by the paths of their parameters.
    pub fn errors(&self, communicator: &Communicator) -> Result<Vec<WholeError>, Failure> {
        let mut errors = Vec::new();
        for (index, matrices) in self.resblocks.iter().enumerate() {
            for (matrix, sum) in matrices.iter().zip(self.power_sgd.sums(index, communicator)?) {
                let [rows, columns] = matrix.shape;
                let sum = if matrix.is_transposed() { transposed(&sum, columns, rows) } else { sum };
                errors.push((matrix.path.clone(), matrix.shape, sum));
            }
        }
        Ok(errors)
    }

    /// Sets the error buffers to this machine's part of sums over machines of whole parameters, by path. Those that are missing stay zero.
    ///
    /// # Errors
    /// The sums are those of another network.
    pub fn restore(&mut self, sums: &BTreeMap<String, TensorData>) -> Result<()> {
        for (index, matrices) in self.resblocks.iter().enumerate() {
            let own = matrices.iter().map(|matrix| match sums.get(&matrix.path) {
                Some(whole) => matrix.rows_of(whole),
                None => Ok(vec![0.0; matrix.values.len()]),
            });
            self.power_sgd.restore(index, &own.collect::<Result<Vec<_>>>()?);
        }
        Ok(())
    }

    /// As [`restore`](Self::restore), from this rank's rows of the sums.
    pub fn restore_rows(&mut self, mut sums: BTreeMap<String, TensorData>) -> Result<()> {
        for (index, matrices) in self.resblocks.iter().enumerate() {
            let own = matrices.iter().map(|matrix| match sums.remove(&matrix.path) {
                Some(rows) => {
                    ensure!(
                        rows.num_elements() == matrix.values.len(),
                        "the checkpoint's error buffer of `{}` has {} values, expected {}; it belongs to another configuration",
                        matrix.path,
                        rows.num_elements(),
                        matrix.values.len()
                    );
                    Ok(matrix.kept(floats(rows)))
                }
                None => Ok(vec![0.0; matrix.values.len()]),
            });
            self.power_sgd.restore(index, &own.collect::<Result<Vec<_>>>()?);
        }
        Ok(())
    }
}

/// A matrix of `rows × columns` values, transposed.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_of_resblocks_are_compressed_and_nothing_else() {
        assert_eq!(resblock("blocks.3.qkv.weight", 2), Some(6));
        assert_eq!(resblock("blocks.3.fc1.weight", 2), Some(7));
        assert_eq!(resblock("blocks.3.fc1.bias", 1), None);
        assert_eq!(resblock("text_embedding.weight", 2), None);
    }

    #[test]
    fn a_matrix_transposed_twice_is_itself() {
        let values: Vec<f32> = (0..6).map(|i| i as f32).collect();
        assert_eq!(transposed(&values, 2, 3), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(transposed(&transposed(&values, 2, 3), 3, 2), values);
    }
}

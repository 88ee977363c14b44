//! PowerSGD: gradients between machines, compressed (appendix E of the paper).
//!
//! Each machine keeps an error buffer for each matrix, in 1-6-9: what it has of the gradients that no update has applied yet. It is
//! the gradient buffer too. A resblock goes through the steps on its own, its matrices together, so that other resblocks can be computed
//! while it is sent:
//!
//! ```text
//! let finite = compressor.add(index, gradients, scale);               // 1: E += G ÷ scale
//! let p = compressor.project(index, &communicator);                   // 2, 3: P = E·Q₀, summed over machines
//! let q = compressor.factor(p, &communicator)?;                       // 4, 5: orthonormal P; Q = Eᵀ·P, summed
//! let update = compressor.decompress(q)?;                             // 6, 7: P·Qᵗ; E −= P·Qᵗ ÷ machines
//! let norm = global_norm(&communicator, squares, …)?;
//! ```
//!
//! The matrices are one rank's row shards; machines sum them over [`Group::Peers`], whose ranks hold the same rows. Those with more rows
//! than columns are compressed as their transposes.
//!
//! Products are Burn's, on any device; P is made orthonormal on the host. Codes of 1-6-9 are on the host too, since Burn has no cast
//! between the bits of floats and integers.

mod buffer;
mod householder;
mod norm;

use std::collections::BTreeMap;

use dalle_comm::{Communicator, Failure, Group, Pending, Wire};
use dalle_data::random::{Purpose, stream};
use dalle_kernels::formats::all_finite;
use dalle_model::Device;
use dalle_model::burn::tensor::{Tensor, TensorData};
use rand::RngExt;
use rayon::prelude::*;

use buffer::Buffer;
pub use buffer::Precision;
pub use norm::global_norm;

/// Columns of P and Q for each row of a matrix in the paper: 896 for a width of 3968 (appendix E).
pub const PAPER_SHARE: f64 = 896.0 / 3968.0;

/// Random vectors that the norm of the error buffers is estimated from.
const PROBES: usize = 4;

/// How gradients are compressed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Columns of P and Q, at most the rows of a matrix: 112 for each of 8 shards at the paper's size.
    pub rank: usize,
    /// Seed of the fixed matrices Q₀.
    pub seed: u64,
    /// How error buffers are kept.
    pub buffers: Precision,
    /// How P and Q are sent.
    pub wire: Wire,
    /// What P is multiplied by while it is sent, so that it is in the middle of the wire's range.
    pub p_scale: f32,
    /// The same for Q.
    pub q_scale: f32,
}

impl Config {
    /// The paper's 16-bit formats, at a given rank.
    pub fn paper(rank: usize, seed: u64) -> Self {
        Self { rank, seed, buffers: Precision::F1_6_9, wire: Wire::F1_6_9, p_scale: 1.0, q_scale: 1.0 }
    }
}

/// The error buffers of one rank.
pub struct PowerSgd {
    config: Config,
    device: Device,
    machines: usize,
    resblocks: Vec<Resblock>,
    /// Q₀ by its shape, `[columns, rank]`: matrices of one shape share it.
    gaussians: BTreeMap<[usize; 2], Tensor<2>>,
}

struct Resblock {
    matrices: Vec<Matrix>,
    /// Whether this update's gradients were finite here.
    finite: bool,
}

/// A matrix with rows ≤ columns.
struct Matrix {
    rows: usize,
    columns: usize,
    /// Whether it is the transpose of the parameter's.
    transposed: bool,
    error: Buffer,
}

impl Matrix {
    fn rank(&self, config: &Config) -> usize {
        config.rank.min(self.rows)
    }
}

/// A resblock whose P is being summed.
pub struct Projected {
    index: usize,
    /// The error buffers, on the device.
    errors: Vec<Tensor<2>>,
    sum: Pending<Vec<f32>>,
}

/// A resblock whose Q is being summed.
pub struct Factored {
    index: usize,
    ps: Vec<Tensor<2>>,
    sum: Pending<Vec<f32>>,
}

/// The gradients of a resblock, summed over machines.
pub struct Decompressed {
    /// Which resblock.
    pub index: usize,
    /// The gradient of each matrix, in f32, the same on all machines.
    pub gradients: Vec<Tensor<2>>,
    /// The sum of their squares, which is ‖Q‖² since P is orthonormal. Infinite if a gradient was not finite on this rank.
    pub squares: f64,
}

impl PowerSgd {
    /// Buffers of zeros for the matrices of each resblock, whose sizes are `[rows, columns]`. Products are computed on `device`.
    ///
    /// # Panics
    /// If the rank or a size is 0.
    pub fn new(config: Config, machines: usize, shapes: &[Vec<[usize; 2]>], device: &Device) -> Self {
        assert!(config.rank > 0 && machines > 0, "rank {} and {machines} machines", config.rank);
        let device = device.clone().without_autodiff();
        let mut gaussians = BTreeMap::new();
        let mut matrix = |&[rows, columns]: &[usize; 2]| {
            let transposed = rows > columns;
            let (rows, columns) = if transposed { (columns, rows) } else { (rows, columns) };
            assert!(rows > 0, "a matrix of {rows} × {columns}");
            let matrix =
                Matrix { rows, columns, transposed, error: Buffer::zeros(config.buffers, rows * columns) };
            let shape = [columns, matrix.rank(&config)];
            gaussians.entry(shape).or_insert_with(|| gaussian(config.seed, shape, &device));
            matrix
        };
        let resblocks = shapes
            .iter()
            .map(|shapes| Resblock { matrices: shapes.iter().map(&mut matrix).collect(), finite: true })
            .collect();
        Self { config, device, machines, resblocks, gaussians }
    }

    /// Step 1: adds the gradients of a resblock's matrices, divided by `scale`, to its error buffers; those that are not finite are left
    /// out. Returns whether all are finite.
    ///
    /// # Panics
    /// If they are not those of the resblock.
    pub fn add(&mut self, index: usize, gradients: Vec<Tensor<2>>, scale: f32) -> bool {
        let resblock = &mut self.resblocks[index];
        assert_eq!(gradients.len(), resblock.matrices.len(), "one gradient for each matrix");
        let gradients: Vec<Vec<f32>> = gradients
            .into_iter()
            .zip(&resblock.matrices)
            .map(|(gradient, matrix)| {
                let gradient = if matrix.transposed { gradient.transpose() } else { gradient };
                assert_eq!(gradient.dims(), [matrix.rows, matrix.columns], "a gradient of another matrix");
                values(gradient)
            })
            .collect();
        resblock.finite = gradients.iter().all(|gradient| all_finite(gradient));
        if resblock.finite {
            resblock
                .matrices
                .par_iter_mut()
                .zip(gradients)
                .for_each(|(matrix, gradient)| matrix.error.add(&gradient, 1.0 / scale));
        }
        resblock.finite
    }

    /// Steps 2 and 3: begins to sum P = E·Q₀ of all matrices of a resblock. A buffer that is contaminated (it holds NaN or infinity) is
    /// set to zero, it alone.
    pub fn project(&mut self, index: usize, communicator: &Communicator) -> Projected {
        let resblock = &mut self.resblocks[index];
        let (mut errors, mut ps) = (Vec::new(), Vec::new());
        for matrix in &mut resblock.matrices {
            let mut error = matrix.error.values();
            if !all_finite(&error) {
                error.fill(0.0);
                matrix.error.clear();
                resblock.finite = false;
            }
            let error = tensor(error, [matrix.rows, matrix.columns], &self.device);
            let gaussian = self.gaussians[&[matrix.columns, matrix.rank(&self.config)]].clone();
            ps.extend(values(error.clone().matmul(gaussian).mul_scalar(self.config.p_scale)));
            errors.push(error);
        }
        Projected { index, errors, sum: communicator.all_reduce(Group::Peers, ps, self.config.wire) }
    }

    /// Steps 4 and 5: makes the columns of P orthonormal and begins to sum Q = Eᵀ·P.
    ///
    /// # Errors
    /// Communication failed.
    pub fn factor(&self, projected: Projected, communicator: &Communicator) -> Result<Factored, Failure> {
        let Projected { index, errors, sum } = projected;
        let sum: Vec<f32> = sum.wait()?.into_iter().map(|value| value / self.config.p_scale).collect();
        let matrices = &self.resblocks[index].matrices;
        let (mut parts, mut rest) = (Vec::new(), sum.as_slice());
        for matrix in matrices {
            let (part, others) = rest.split_at(matrix.rows * matrix.rank(&self.config));
            parts.push((matrix, part));
            rest = others;
        }
        let ps: Vec<Vec<f32>> = parts
            .into_par_iter()
            .map(|(matrix, p)| householder::orthonormal(p, matrix.rows, matrix.rank(&self.config)))
            .collect();
        let (mut qs, mut tensors) = (Vec::new(), Vec::new());
        for ((matrix, error), p) in matrices.iter().zip(errors).zip(ps) {
            let p = tensor(p, [matrix.rows, matrix.rank(&self.config)], &self.device);
            qs.extend(values(error.transpose().matmul(p.clone()).mul_scalar(self.config.q_scale)));
            tensors.push(p);
        }
        Ok(Factored { index, ps: tensors, sum: communicator.all_reduce(Group::Peers, qs, self.config.wire) })
    }

    /// Steps 6 and 7: the summed gradients P·Qᵗ; each machine takes its share of them out of its error buffers, whether or not the update
    /// is applied.
    ///
    /// # Errors
    /// Communication failed.
    pub fn decompress(&mut self, factored: Factored) -> Result<Decompressed, Failure> {
        let Factored { index, ps, sum } = factored;
        let sum: Vec<f32> = sum.wait()?.into_iter().map(|value| value / self.config.q_scale).collect();
        let resblock = &mut self.resblocks[index];
        let mut squares: f64 = sum.iter().map(|value| f64::from(*value).powi(2)).sum();
        if !resblock.finite {
            squares = f64::INFINITY;
        }
        let (mut rest, share) = (sum.as_slice(), -1.0 / self.machines as f32);
        let gradients = resblock.matrices.iter_mut().zip(ps).map(|(matrix, p)| {
            let shape = [matrix.columns, matrix.rank(&self.config)];
            let (q, others) = rest.split_at(shape[0] * shape[1]);
            rest = others;
            let gradient = p.matmul(tensor(q.to_vec(), shape, &self.device).transpose());
            let on_host = values(gradient.clone());
            if all_finite(&on_host) {
                matrix.error.add(&on_host, share);
            } else {
                matrix.error.clear();
            }
            if matrix.transposed { gradient.transpose() } else { gradient }
        });
        let gradients = gradients.collect();
        resblock.finite = true;
        Ok(Decompressed { index, gradients, squares })
    }

    /// The sums of a resblock's error buffers over machines, in f32: what a checkpoint holds, whatever the number of machines.
    ///
    /// # Errors
    /// Communication failed.
    pub fn sums(&self, index: usize, communicator: &Communicator) -> Result<Vec<Vec<f32>>, Failure> {
        let matrices = self.resblocks[index].matrices.iter();
        let pending: Vec<_> = matrices
            .map(|matrix| communicator.all_reduce(Group::Peers, matrix.error.values(), Wire::F32))
            .collect();
        pending.into_iter().map(Pending::wait).collect()
    }

    /// Sets a resblock's error buffers to this machine's share of their [`sums`](Self::sums).
    ///
    /// # Panics
    /// If they are not those of the resblock.
    pub fn restore(&mut self, index: usize, sums: &[Vec<f32>]) {
        let matrices = &mut self.resblocks[index].matrices;
        assert_eq!(sums.len(), matrices.len(), "one buffer for each matrix");
        for (matrix, sum) in matrices.iter_mut().zip(sums) {
            matrix.error.clear();
            matrix.error.add(sum, 1.0 / self.machines as f32);
        }
    }

    /// An estimate of ‖ΣE‖², the sum of squares of all error buffers after they were summed over machines, from their products with a few
    /// Gaussian vectors. The vectors depend on `number`; the mean over numbers is exact.
    ///
    /// # Errors
    /// Communication failed.
    pub fn squares_left(&self, number: u64, communicator: &Communicator) -> Result<f64, Failure> {
        // Not Q₀, whose products with the buffers are 0 after each update.
        let seed = self.config.seed.wrapping_add(number.wrapping_add(1));
        let mut products = Vec::new();
        for matrix in self.resblocks.iter().flat_map(|resblock| &resblock.matrices) {
            let error = tensor(matrix.error.values(), [matrix.rows, matrix.columns], &self.device);
            products.extend(values(error.matmul(gaussian(seed, [matrix.columns, PROBES], &self.device))));
        }
        let sums = communicator.all_reduce(Group::Peers, products, Wire::F32).wait()?;
        Ok(sums.iter().map(|sum| f64::from(*sum).powi(2)).sum::<f64>() / PROBES as f64)
    }

    /// Bytes that this rank's P and Q of one update take on the wire, and those of the gradients they stand for in the same format.
    pub fn bytes(&self) -> (usize, usize) {
        let matrices = self.resblocks.iter().flat_map(|resblock| &resblock.matrices);
        let (mut compressed, mut whole) = (0, 0);
        for matrix in matrices {
            compressed += (matrix.rows + matrix.columns) * matrix.rank(&self.config);
            whole += matrix.rows * matrix.columns;
        }
        let bytes = self.config.wire.bytes();
        (compressed * bytes, whole * bytes)
    }
}

/// Values N(0, 1), a function of the seed and the shape alone.
fn gaussian(seed: u64, [rows, columns]: [usize; 2], device: &Device) -> Tensor<2> {
    let mut rng = stream(seed, Purpose::PowerSgd, (rows as u64) << 32 | columns as u64);
    let mut pair = || {
        // Box and Muller's; 1 − u is never 0.
        let (radius, turn): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
        let (radius, (sine, cosine)) =
            ((-2.0 * radius.ln()).sqrt(), (std::f64::consts::TAU * turn).sin_cos());
        [(radius * cosine) as f32, (radius * sine) as f32]
    };
    let mut values: Vec<f32> = (0..(rows * columns).div_ceil(2)).flat_map(|_| pair()).collect();
    values.truncate(rows * columns);
    tensor(values, [rows, columns], device)
}

fn tensor(values: Vec<f32>, shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// A tensor's values in row-major order.
fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().expect("the values were converted to f32")
}

#[cfg(test)]
mod tests;

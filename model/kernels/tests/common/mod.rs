//! Plain loops in f64 to compare kernels with.
#![allow(dead_code, reason = "each test file uses its part")]

/// Reproducible numbers in −1..1.
pub fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 * 2.0 - 1.0
        })
        .collect()
}

/// Images `[B, C, H, W]`.
#[derive(Clone)]
pub struct Images {
    pub shape: [usize; 4],
    pub data: Vec<f32>,
}

impl Images {
    pub fn random(shape: [usize; 4], seed: u32) -> Self {
        Self { shape, data: numbers(shape.iter().product(), seed) }
    }

    pub fn zeros(shape: [usize; 4]) -> Self {
        Self { shape, data: vec![0.0; shape.iter().product()] }
    }

    /// The value at a place, 0 outside.
    pub fn at(&self, b: usize, c: usize, y: isize, x: isize) -> f64 {
        let [_, channels, height, width] = self.shape;
        if y < 0 || x < 0 || y as usize >= height || x as usize >= width {
            return 0.0;
        }
        f64::from(self.data[((b * channels + c) * height + y as usize) * width + x as usize])
    }

    pub fn map(&self, f: impl Fn(f32) -> f32) -> Self {
        Self { shape: self.shape, data: self.data.iter().map(|&x| f(x)).collect() }
    }
}

/// A convolution with stride 1 that keeps the size: `w` is `[out, in, k, k]`.
pub fn convolve(x: &Images, w: &[f32], k: usize, bias: &[f32]) -> Images {
    let [images, n_in, height, width] = x.shape;
    let n_out = bias.len();
    let mut y = Images::zeros([images, n_out, height, width]);
    let half = (k / 2) as isize;
    for (i, value) in y.data.iter_mut().enumerate() {
        let (column, row) = ((i % width) as isize, (i / width % height) as isize);
        let (out, image) = (i / (width * height) % n_out, i / (width * height * n_out));
        let mut sum = f64::from(bias[out]);
        for input in 0..n_in {
            for tap in 0..k * k {
                let (dy, dx) = ((tap / k) as isize - half, (tap % k) as isize - half);
                sum += x.at(image, input, row + dy, column + dx)
                    * f64::from(w[(out * n_in + input) * k * k + tap]);
            }
        }
        *value = sum as f32;
    }
    y
}

/// The gradient of [`convolve`]'s input.
pub fn input_gradient(dy: &Images, w: &[f32], k: usize, n_in: usize) -> Images {
    let n_out = dy.shape[1];
    let mut turned = vec![0.0; w.len()];
    for out in 0..n_out {
        for input in 0..n_in {
            for tap in 0..k * k {
                turned[(input * n_out + out) * k * k + tap] =
                    w[(out * n_in + input) * k * k + k * k - 1 - tap];
            }
        }
    }
    convolve(dy, &turned, k, &vec![0.0; n_in])
}

/// The gradient of [`convolve`]'s kernel.
pub fn kernel_gradient(x: &Images, dy: &Images, k: usize) -> Vec<f32> {
    let [images, n_in, height, width] = x.shape;
    let n_out = dy.shape[1];
    let half = (k / 2) as isize;
    (0..n_out * n_in * k * k)
        .map(|i| {
            let (tap, input, out) = (i % (k * k), i / (k * k) % n_in, i / (k * k * n_in));
            let (down, right) = ((tap / k) as isize - half, (tap % k) as isize - half);
            let mut sum = 0.0;
            for image in 0..images {
                for y in 0..height as isize {
                    for column in 0..width as isize {
                        sum += dy.at(image, out, y, column) * x.at(image, input, y + down, column + right);
                    }
                }
            }
            sum as f32
        })
        .collect()
}

/// Panics where two lists differ by more than `tolerance` of the greatest absolute value.
#[track_caller]
pub fn assert_close(got: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}: lengths");
    let scale = expected.iter().fold(1e-30f32, |most, value| most.max(value.abs()));
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let difference = (got - expected).abs() / scale;
        assert!(difference <= tolerance, "{what}: value {i} is {got}, expected {expected} (scale {scale})");
    }
}

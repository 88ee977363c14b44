//! Every convolution and gradient against plain loops, at sizes that fit no vector.

mod common;

use common::{Images, assert_close, convolve, input_gradient, kernel_gradient, numbers};
use dalle_kernels::conv_kernel::ConvKernel;
use dalle_kernels::finish::Finish;
use dalle_kernels::gradient::{BiasGradient, KernelGradient, PointwiseGradient};
use dalle_kernels::grid::{Buffer, Grid, zeros};
use dalle_kernels::outer::{OuterGradient, OuterPointwiseGradient};
use dalle_kernels::simd::Processor;
use dalle_kernels::stem::{Stem, StemGradient};
use dalle_kernels::winograd::Convolution;
use dalle_kernels::{pointwise, stem, winograd};

/// Images, height, width, input channels, output channels.
const SIZES: [[usize; 5]; 9] = [
    [1, 1, 1, 1, 1],
    [1, 5, 7, 3, 4],
    [2, 16, 16, 6, 6],
    [3, 9, 4, 5, 7],
    [1, 33, 20, 2, 3],
    [2, 3, 40, 8, 12],
    [1, 24, 64, 13, 10],
    [2, 10, 6, 20, 50],
    [1, 7, 12, 70, 18],
];

/// Every size with every kind of vectors that this processor has.
fn cases() -> impl Iterator<Item = (Processor, [usize; 5])> {
    Processor::all().into_iter().flat_map(|processor| SIZES.map(|size| (processor, size)))
}

fn map_of(grid: &Grid, images: &Images) -> Buffer {
    let mut map = grid.map(images.shape[1]);
    let length = images.data.len() / images.shape[0];
    for (image, pixels) in images.data.chunks_exact(length).enumerate() {
        grid.fill(&mut map, image, pixels);
    }
    map
}

/// The images of a map, whose border must be 0.
fn images_of(grid: &Grid, map: &[f32], channels: usize) -> Images {
    let mut images = Images::zeros([grid.images, channels, grid.height, grid.width]);
    let length = images.data.len() / grid.images;
    for (image, pixels) in images.data.chunks_exact_mut(length).enumerate() {
        grid.read(map, image, pixels);
    }
    assert_eq!(map_of(grid, &images)[..], *map, "the border is 0");
    images
}

fn relu(x: f32) -> f32 {
    x.max(0.0)
}

#[test]
fn a_winograd_convolution_is_a_convolution_whatever_its_size_and_finish() {
    for (processor, [images, height, width, n_in, n_out]) in cases() {
        let grid = Grid::new(images, height, width, 1);
        let x = Images::random([images, n_in, height, width], 1);
        let (w, bias) = (numbers(n_out * n_in * 9, 2), numbers(n_out, 3));
        let other = Images::random([images, n_out, height, width], 4);
        let mut kernel = winograd::WinogradKernel::zeros(n_out, n_in);
        kernel.set(&w, 0.5);
        let half: Vec<f32> = w.iter().map(|w| 0.5 * w).collect();
        let (map, other_map) = (map_of(&grid, &x), map_of(&grid, &other));
        let run = |relu: bool, finish: Finish<'_>, y: &mut Buffer| {
            let (grid, kernel, x) = (&grid, &kernel, grid.view(&map));
            let mut scratch = zeros(0);
            processor.run(Convolution { grid, kernel, x, relu, finish, y, scratch: &mut scratch });
        };
        let mut y = grid.map(n_out);
        run(true, Finish::Relu(&bias), &mut y);
        let expected = convolve(&x.map(relu), &half, 3, &bias);
        assert_close(&images_of(&grid, &y, n_out).data, &expected.map(relu).data, 1e-5, "relu");
        run(true, Finish::Add(&bias, grid.view(&other_map)), &mut y);
        let sum: Vec<f32> = expected.data.iter().zip(&other.data).map(|(a, b)| a + b).collect();
        assert_close(&images_of(&grid, &y, n_out).data, &sum, 1e-5, "add");
        let expected = convolve(&x, &half, 3, &vec![0.0; n_out]);
        let gated: Vec<f32> =
            expected.data.iter().zip(&other.data).map(|(a, b)| if *b > 0.0 { *a } else { 0.0 }).collect();
        run(false, Finish::Gate(&other_map), &mut y);
        assert_close(&images_of(&grid, &y, n_out).data, &gated, 1e-5, "gate");
        run(false, Finish::AddGate(&other_map), &mut y);
        let twice: Vec<f32> = gated.iter().map(|a| 2.0 * a).collect();
        assert_close(&images_of(&grid, &y, n_out).data, &twice, 1e-5, "add and gate");
    }
}

#[test]
fn a_convolution_of_an_upsampled_map_and_its_gradient_sum_over_each_tile() {
    let [images, height, width, n_in, n_out] = [2, 6, 10, 3, 5];
    let processor = Processor::detect();
    let grid = Grid::new(images, height, width, 1);
    let small = Images::random([images, n_in, height / 2, width / 2], 1);
    let mut tiles = grid.tile_map(n_in);
    let mut large = Images::zeros([images, n_in, height, width]);
    for (i, value) in large.data.iter_mut().enumerate() {
        let (x, y) = (i % width, i / width % height);
        let (channel, image) = (i / (width * height) % n_in, i / (width * height * n_in));
        *value = small.at(image, channel, y as isize / 2, x as isize / 2) as f32;
        tiles[channel * grid.plane + grid.front + grid.place(image, y, x).1] = *value;
    }
    let (w, bias) = (numbers(n_out * n_in * 9, 2), numbers(n_out, 3));
    let mut kernel = winograd::WinogradKernel::zeros(n_out, n_in);
    kernel.set(&w, 1.0);
    let mut scratch = zeros(0);
    let mut y = grid.map(n_out);
    processor.run(Convolution {
        grid: &grid,
        kernel: &kernel,
        x: grid.upsampled(&tiles),
        relu: true,
        finish: Finish::Relu(&bias),
        y: &mut y,
        scratch: &mut scratch,
    });
    let expected = convolve(&large.map(relu), &w, 3, &bias).map(relu);
    assert_close(&images_of(&grid, &y, n_out).data, &expected.data, 1e-5, "forward");

    let dy = Images::random([images, n_out, height, width], 5);
    let dy_map = map_of(&grid, &dy);
    let mut dw = vec![0.0; w.len()];
    processor.run(KernelGradient {
        grid: &grid,
        dy: &dy_map,
        x: grid.upsampled(&tiles),
        relu: false,
        dw: &mut dw,
        n_in,
        scratch: &mut scratch,
    });
    let expected = kernel_gradient(&large, &dy, 3);
    assert_close(&dw, &expected, 1e-5, "kernel");
    dw.fill(0.0);
    processor.run(OuterGradient {
        grid: &grid,
        dy: &dy_map,
        x: grid.upsampled(&tiles),
        relu: false,
        dw: &mut dw,
        n_in,
        memory: &mut Default::default(),
    });
    assert_close(&dw, &expected, 1e-5, "kernel by outer products");

    let mut kernel = winograd::WinogradKernel::zeros(n_in, n_out);
    kernel.set_backward(&w, 1.0);
    let mut dx = grid.tile_map(n_in);
    processor.run(Convolution {
        grid: &grid,
        kernel: &kernel,
        x: grid.view(&dy_map),
        relu: false,
        finish: Finish::SumGate(&tiles),
        y: &mut dx,
        scratch: &mut scratch,
    });
    let expected = input_gradient(&dy, &w, 3, n_in);
    let mut sums = grid.tile_map(n_in);
    for (i, value) in expected.data.iter().enumerate() {
        let (x, y) = (i % width, i / width % height);
        let (channel, image) = (i / (width * height) % n_in, i / (width * height * n_in));
        let at = channel * grid.plane + grid.front + grid.place(image, y, x).1;
        if tiles[at] > 0.0 {
            sums[at] += value;
        }
    }
    assert_close(&dx, &sums, 1e-5, "input");
}

#[test]
fn gradients_of_a_3x3_convolution_are_sums_of_products() {
    for (processor, [images, height, width, n_in, n_out]) in cases() {
        let grid = Grid::new(images, height, width, 1);
        let x = Images::random([images, n_in, height, width], 1);
        let dy = Images::random([images, n_out, height, width], 2);
        let w = numbers(n_out * n_in * 9, 3);
        let (x_map, dy_map) = (map_of(&grid, &x), map_of(&grid, &dy));
        let mut scratch = zeros(0);
        let mut dw = vec![1.0; w.len()];
        processor.run(KernelGradient {
            grid: &grid,
            dy: &dy_map,
            x: grid.view(&x_map),
            relu: true,
            dw: &mut dw,
            n_in,
            scratch: &mut scratch,
        });
        let expected: Vec<f32> = kernel_gradient(&x.map(relu), &dy, 3).iter().map(|dw| dw + 1.0).collect();
        assert_close(&dw, &expected, 1e-5, "kernel");
        dw.fill(1.0);
        processor.run(OuterGradient {
            grid: &grid,
            dy: &dy_map,
            x: grid.view(&x_map),
            relu: true,
            dw: &mut dw,
            n_in,
            memory: &mut Default::default(),
        });
        assert_close(&dw, &expected, 1e-5, "kernel by outer products");
        let mut kernel = winograd::WinogradKernel::zeros(n_in, n_out);
        kernel.set_backward(&w, 1.0);
        let mut dx = grid.map(n_in);
        processor.run(Convolution {
            grid: &grid,
            kernel: &kernel,
            x: grid.view(&dy_map),
            relu: false,
            finish: Finish::Gate(&x_map),
            y: &mut dx,
            scratch: &mut scratch,
        });
        let mut expected = input_gradient(&dy, &w, 3, n_in);
        for (dx, x) in expected.data.iter_mut().zip(&x.data) {
            if *x <= 0.0 {
                *dx = 0.0;
            }
        }
        assert_close(&images_of(&grid, &dx, n_in).data, &expected.data, 1e-5, "input");
        let mut db = vec![2.0; n_out];
        processor.run(BiasGradient { grid: &grid, dy: &dy_map, db: &mut db });
        let pixels = height * width;
        let expected: Vec<f32> = (0..n_out)
            .map(|out| {
                let planes = dy.data.chunks_exact(pixels).skip(out).step_by(n_out);
                2.0 + planes.flatten().map(|&value| f64::from(value)).sum::<f64>() as f32
            })
            .collect();
        assert_close(&db, &expected, 1e-5, "bias");
    }
}

#[test]
fn a_1x1_convolution_and_its_gradients_are_products_of_matrices() {
    for (processor, [images, height, width, n_in, n_out]) in cases() {
        let grid = Grid::new(images, height, width, 1);
        let x = Images::random([images, n_in, height, width], 1);
        let dy = Images::random([images, n_out, height, width], 2);
        let (w, bias) = (numbers(n_out * n_in, 3), numbers(n_out, 4));
        let (x_map, dy_map) = (map_of(&grid, &x), map_of(&grid, &dy));
        let mut kernel = pointwise::PointwiseKernel::zeros(n_out, n_in);
        kernel.set(&w, 1.0);
        let mut y = grid.map(n_out);
        processor.run(pointwise::Pointwise {
            grid: &grid,
            kernel: &kernel,
            x: &x_map,
            relu: true,
            finish: Finish::Set(&bias),
            y: &mut y,
        });
        let expected = convolve(&x.map(relu), &w, 1, &bias);
        assert_close(&images_of(&grid, &y, n_out).data, &expected.data, 1e-5, "forward");
        let mut dw = vec![0.0; w.len()];
        processor.run(PointwiseGradient {
            grid: &grid,
            dy: &dy_map,
            x: &x_map,
            relu: true,
            dw: &mut dw,
            n_in,
        });
        let expected = kernel_gradient(&x.map(relu), &dy, 1);
        assert_close(&dw, &expected, 1e-5, "kernel");
        dw.fill(0.0);
        processor.run(OuterPointwiseGradient {
            grid: &grid,
            dy: &dy_map,
            x: &x_map,
            relu: true,
            dw: &mut dw,
            n_in,
            memory: &mut Default::default(),
        });
        assert_close(&dw, &expected, 1e-5, "kernel by outer products");
        let mut kernel = pointwise::PointwiseKernel::zeros(n_in, n_out);
        kernel.set_backward(&w, 1.0);
        let mut dx = grid.map(n_in);
        processor.run(pointwise::Pointwise {
            grid: &grid,
            kernel: &kernel,
            x: &dy_map,
            relu: false,
            finish: Finish::Set(&[]),
            y: &mut dx,
        });
        assert_close(
            &images_of(&grid, &dx, n_in).data,
            &input_gradient(&dy, &w, 1, n_in).data,
            1e-5,
            "input",
        );
    }
}

#[test]
fn the_7x7_stem_and_its_gradient_are_a_convolutions() {
    for (processor, [images, height, width, n_in, n_out]) in cases() {
        let grid = Grid::new(images, height, width, 2);
        let x = Images::random([images, n_in, height, width], 1);
        let dy = Images::random([images, n_out, height, width], 2);
        let (w, bias) = (numbers(n_out * n_in * 49, 3), numbers(n_out, 4));
        let (x_map, dy_map) = (map_of(&grid, &x), map_of(&grid, &dy));
        let mut y = grid.map(n_out);
        let mut kernel = stem::StemKernel::zeros(n_out, n_in);
        kernel.set(&w);
        processor.run(Stem { grid: &grid, kernel: &kernel, bias: &bias, x: &x_map, y: &mut y });
        assert_close(&images_of(&grid, &y, n_out).data, &convolve(&x, &w, 7, &bias).data, 1e-5, "forward");
        let mut dw = vec![0.0; w.len()];
        processor.run(StemGradient { grid: &grid, dy: &dy_map, x: &x_map, dw: &mut dw, n_in });
        assert_close(&dw, &kernel_gradient(&x, &dy, 7), 1e-5, "kernel");
    }
}

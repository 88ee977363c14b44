//! Cells of the token grid on an image.

/// The place of a cell on a plate, as a style.
pub fn cell_style(cell: usize, grid: usize) -> String {
    let share = 100.0 / grid as f64;
    let (left, top) = ((cell % grid) as f64 * share, (cell / grid) as f64 * share);
    format!("left:{left:.3}%;top:{top:.3}%;width:{share:.3}%;height:{share:.3}%")
}

//! Attention of one head: each query to exactly the keys that it sees.

use std::borrow::Cow;

use pulp::{Simd, WithSimd};

use super::cache::{StoredView, StoredViewMut};
use crate::grid::{UNIT, zeros};
use crate::simd::exp;
use crate::transformer::product::{product, products};

/// Keys and values of the caption for one head; see [`LayerCache`](super::cache::LayerCache).
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub keys: StoredView<'a>,
    pub values: StoredView<'a>,
    /// Text slots.
    pub slots: usize,
    /// The same, padded to whole panels.
    pub width: usize,
    /// Slots of a panel of the keys.
    pub panel: usize,
}

impl Text<'_> {
    /// Scores of the first `columns` slots or more, for `rows` queries; rows of `scores` are `stride` apart.
    #[inline(always)]
    fn scores<S: Simd>(
        &self,
        s: S,
        wide: &mut Vec<f32>,
        (queries, rows, head): (&[f32], usize, usize),
        columns: usize,
        scores: &mut [f32],
        stride: usize,
    ) {
        let length = head * self.panel;
        for index in 0..columns.div_ceil(self.panel) {
            let keys = in_f32(self.keys.part(index * length, length), wide);
            let scores = &mut scores[index * self.panel..];
            product(s, (queries, head, rows, head), (keys, self.panel, self.panel), scores, stride);
        }
    }
}

/// Values in f32. Those of 16 bits are widened in `wide`, few at once, so that they stay in the first cache.
#[inline(always)]
fn in_f32<'a>(view: StoredView<'a>, wide: &'a mut Vec<f32>) -> &'a [f32] {
    if let StoredView::F32(values) = view {
        return values;
    }
    wide.resize(view.len(), 0.0);
    view.read(wide);
    wide
}

/// The slots of one head that a step or a prefix adds.
pub(super) struct Added<'a> {
    /// Queries, scaled, `[rows, head]`, replaced by the results.
    pub queries: &'a mut [f32],
    /// Their keys and values, `[rows, head]`.
    pub new: [&'a [f32]; 2],
    /// What the image's cache holds of each sample, `[samples, capacity, head]`.
    pub kept: [StoredViewMut<'a>; 2],
    /// Where the keys and values of each row are kept.
    pub places: &'a [usize],
    /// Where the keys are kept that each row sees.
    pub seen: &'a [Vec<usize>],
}

/// Adds image slots to the cache and computes their attention, to be dispatched.
pub(super) struct ImageAttention<'a> {
    pub head: usize,
    pub text: Text<'a>,
    pub added: Added<'a>,
}

impl WithSimd for ImageAttention<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { head, text, added } = self;
        let Added { queries, new: [new_keys, new_values], kept: [mut keys, mut values], places, seen } =
            added;
        let rows = queries.len() / head;
        if rows == 0 {
            return;
        }
        let most = seen.iter().map(Vec::len).max().unwrap_or(0);
        let width = text.width + most.next_multiple_of(UNIT);
        let mut scores = zeros(rows * width);
        let mut wide = Vec::new();
        text.scores(s, &mut wide, (queries, rows, head), text.width, &mut scores, width);
        // Row by row: a row may overwrite a slot that the previous row still attends to.
        for row in 0..rows {
            let own = row * head..(row + 1) * head;
            keys.write(places[row] * head, 1, &new_keys[own.clone()]);
            values.write(places[row] * head, 1, &new_values[own.clone()]);
            let scores = &mut scores[row * width..(row + 1) * width];
            // The image's scores follow the text's; the rest of the row is padding.
            let count = text.slots + seen[row].len();
            let seen_keys = Seen::new(keys.view(), &seen[row], head);
            for (score, key) in scores[text.slots..].iter_mut().zip(seen_keys.rows()) {
                *score = dot(s, &queries[own.clone()], key);
            }
            softmax(s, scores, count);
            let result = &mut queries[own];
            result.fill(0.0);
            let seen_values = Seen::new(values.view(), &seen[row], head);
            for (weight, value) in scores[text.slots..].iter().zip(seen_values.rows()) {
                add_scaled(s, *weight, value, result);
            }
        }
        let mut results = zeros(rows * head);
        // 16-bit values are widened few at once, those of 32 bits read where they lie.
        let part = if matches!(text.values, StoredView::F32(_)) { text.slots } else { text.panel };
        for from in (0..text.slots).step_by(part) {
            let count = part.min(text.slots - from);
            let values = in_f32(text.values.part(from * head, count * head), &mut wide);
            let weights = (&scores[from..], width, rows, count);
            products(s, weights, (values, head, head), &mut results, head, from > 0);
        }
        for (result, text) in queries.iter_mut().zip(results.iter()) {
            *result += text;
        }
    }
}

/// Attention of text slots to the text up to themselves, to be dispatched.
pub(super) struct TextAttention<'a> {
    pub head: usize,
    pub text: Text<'a>,
    /// Queries of all text slots, scaled, `[slots, head]`, replaced by the results.
    pub queries: &'a mut [f32],
}

/// Queries that are computed at once.
const BLOCK: usize = 4;

impl WithSimd for TextAttention<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { head, text, queries } = self;
        let (keys, values, mut wide) = (text.keys.widened(), text.values.widened(), Vec::new());
        let text = Text { keys: StoredView::F32(&keys), ..text };
        let (mut scores, mut results) = (zeros(BLOCK * text.width), zeros(BLOCK * head));
        for (block, queries) in queries.chunks_mut(BLOCK * head).enumerate() {
            let (first, rows) = (block * BLOCK, queries.len() / head);
            let columns = (first + rows).next_multiple_of(UNIT);
            text.scores(s, &mut wide, (queries, rows, head), columns, &mut scores, text.width);
            for (row, scores) in scores.chunks_exact_mut(text.width).take(rows).enumerate() {
                softmax(s, &mut scores[..columns], first + row + 1);
            }
            let weights = (&scores[..], text.width, rows, first + rows);
            product(s, weights, (&values, head, head), &mut results, head);
            queries.copy_from_slice(&results[..queries.len()]);
        }
    }
}

/// The keys, or values, of some slots.
struct Seen<'a> {
    data: Cow<'a, [f32]>,
    /// Where they begin in `data`, in rows; their order if `None`.
    slots: Option<&'a [usize]>,
    count: usize,
    head: usize,
}

impl<'a> Seen<'a> {
    #[inline(always)]
    fn new(kept: StoredView<'a>, slots: &'a [usize], head: usize) -> Self {
        let count = slots.len();
        if let StoredView::F32(data) = kept {
            return Self { data: Cow::Borrowed(data), slots: Some(slots), count, head };
        }
        let mut data = vec![0.0; count * head];
        for (row, slot) in data.chunks_exact_mut(head).zip(slots) {
            kept.part(slot * head, head).read(row);
        }
        Self { data: Cow::Owned(data), slots: None, count, head }
    }

    #[inline(always)]
    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        (0..self.count).map(|i| {
            let slot = self.slots.map_or(i, |slots| slots[i]);
            &self.data[slot * self.head..(slot + 1) * self.head]
        })
    }
}

#[inline(always)]
fn dot<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let mut sum = s.splat_f32s(0.0);
    for (a, b) in S::as_simd_f32s(a).0.iter().zip(S::as_simd_f32s(b).0) {
        sum = s.mul_add_e_f32s(*a, *b, sum);
    }
    s.reduce_sum_f32s(sum)
}

/// sum += weight · x.
#[inline(always)]
fn add_scaled<S: Simd>(s: S, weight: f32, x: &[f32], sum: &mut [f32]) {
    let weight = s.splat_f32s(weight);
    for (sum, x) in S::as_mut_simd_f32s(sum).0.iter_mut().zip(S::as_simd_f32s(x).0) {
        *sum = s.mul_add_e_f32s(weight, *x, *sum);
    }
}

/// Softmax of the first `count` scores, in place; the others become 0. NaN and infinite scores make all of them NaN.
#[inline(always)]
fn softmax<S: Simd>(s: S, scores: &mut [f32], count: usize) {
    let padded = count.next_multiple_of(UNIT).min(scores.len());
    scores[count..].fill(f32::MIN);
    let row = S::as_mut_simd_f32s(&mut scores[..padded]).0;
    let mut most = s.splat_f32s(f32::MIN);
    for score in &*row {
        most = s.max_f32s(most, *score);
    }
    let most = s.splat_f32s(s.reduce_max_f32s(most));
    let mut sum = s.splat_f32s(0.0);
    for score in &mut *row {
        let away = s.sub_f32s(*score, most);
        // `exp` takes NaN for a number.
        *score = s.select_f32s(s.equal_f32s(away, away), exp(s, away), away);
        sum = s.add_f32s(sum, *score);
    }
    let scale = s.splat_f32s(1.0 / s.reduce_sum_f32s(sum));
    for score in row {
        *score = s.mul_f32s(*score, scale);
    }
    scores[count..].fill(0.0);
}

//! Attention of queries in groups that see the same keys: sparse patterns compute only what is seen, and dense ones are one group.

use pulp::{Simd, WithSimd};

use super::product::product;
use crate::grid::{Buffer, UNIT, zeros};
use crate::simd::{exp, load, vectors, vectors_mut};

/// Queries that share their keys.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// Slots of the queries.
    pub queries: Vec<usize>,
    /// Slots of the keys.
    pub keys: Vec<usize>,
    /// 0 where a query sees a key, else a number so low that its share is 0: `[queries, keys]`, padded to whole units.
    pub mask: Buffer,
}

impl Group {
    /// Queries of some slots, and all the keys that they see.
    pub fn new(queries: Vec<usize>, keys: Vec<usize>, sees: impl Fn(usize, usize) -> bool) -> Self {
        let width = keys.len().next_multiple_of(UNIT);
        let mut mask = zeros(queries.len() * width);
        for (query, mask) in queries.iter().zip(mask.chunks_exact_mut(width)) {
            mask.fill(HIDDEN);
            for (key, mask) in keys.iter().zip(mask) {
                if sees(*query, *key) {
                    *mask = 0.0;
                }
            }
        }
        Self { queries, keys, mask }
    }

    /// Its size.
    pub fn size(&self) -> GroupSize {
        GroupSize { queries: self.queries.len(), width: self.width() }
    }

    /// Keys, padded to whole units.
    pub fn width(&self) -> usize {
        self.keys.len().next_multiple_of(UNIT)
    }
}

/// Queries of a group, and its keys, padded to whole units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupSize {
    pub queries: usize,
    pub width: usize,
}

/// Far below any score, and still finite when a score is added.
const HIDDEN: f32 = -1e30;

/// Values that attention keeps of one stream: of each head and group the shares `[queries, keys]`, one after the other.
pub(crate) fn shares(heads: usize, groups: impl Iterator<Item = GroupSize>) -> usize {
    heads * groups.map(|group| group.queries * group.width).sum::<usize>()
}

/// Heads of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heads {
    pub count: usize,
    /// Width of a head.
    pub head: usize,
}

impl Heads {
    /// Width of all heads together.
    pub fn width(self) -> usize {
        self.count * self.head
    }
}

/// Working memory of attention.
#[derive(Debug)]
pub(crate) struct AttentionScratch {
    /// Queries, and their gradient, one after the other.
    queries: Buffer,
    d_queries: Buffer,
    /// Keys and values, row by row and column by column, and their gradients.
    keys: Buffer,
    values: Buffer,
    keys_turned: Buffer,
    values_turned: Buffer,
    d_keys: Buffer,
    d_values: Buffer,
    /// Results, and scores' gradients.
    results: Buffer,
    d_scores: Buffer,
}

impl AttentionScratch {
    /// Values of the memory.
    pub fn values(head: usize, GroupSize { queries, width }: GroupSize) -> usize {
        head * (3 * queries + 6 * width) + queries * width
    }

    /// For heads of a width, and groups that are nowhere larger than `largest`.
    pub fn new(head: usize, largest: GroupSize) -> Self {
        let GroupSize { queries, width: keys } = largest;
        let rows = |count: usize| zeros(count * head);
        Self {
            queries: rows(queries),
            d_queries: rows(queries),
            keys: rows(keys),
            values: rows(keys),
            keys_turned: rows(keys),
            values_turned: rows(keys),
            d_keys: rows(keys),
            d_values: rows(keys),
            results: rows(queries),
            d_scores: zeros(queries * keys),
        }
    }
}

impl GroupSize {
    /// The most queries and the most keys of some groups.
    pub fn largest(groups: impl Iterator<Item = Self>) -> Self {
        groups.fold(Self { queries: 0, width: 0 }, |most, group| Self {
            queries: most.queries.max(group.queries),
            width: most.width.max(group.width),
        })
    }
}

/// Attention of one head, to be dispatched.
pub(crate) struct Attention<'a> {
    pub heads: Heads,
    pub groups: &'a [Group],
    pub head: usize,
    /// Queries, keys and values of all slots, `[slots, 3·d]`.
    pub qkv: &'a [f32],
    /// The head's part of [`shares`].
    pub shares: &'a mut [f32],
    /// The result, `[slots, head]`.
    pub y: &'a mut [f32],
    pub scratch: &'a mut AttentionScratch,
}

impl WithSimd for Attention<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { heads, groups, head: index, qkv, shares, y, scratch } = self;
        let (head, d) = (heads.head, heads.width());
        let (scale, at) = (1.0 / (head as f32).sqrt(), index * head);
        let mut rest = shares;
        for group in groups {
            let (count, width) = (group.queries.len(), group.width());
            let (shares, after) = rest.split_at_mut(count * width);
            rest = after;
            let AttentionScratch { queries, values, keys_turned, results, .. } = &mut *scratch;
            gather(qkv, (at, 3 * d, head), &group.queries, scale, queries);
            turn(qkv, (d + at, 3 * d, head), &group.keys, width, keys_turned);
            gather(qkv, (2 * d + at, 3 * d, head), &group.keys, 1.0, values);
            product(s, (queries, head, count, head), (keys_turned, width, width), shares, width);
            for (shares, mask) in shares.chunks_exact_mut(width).zip(group.mask.chunks_exact(width)) {
                softmax(s, shares, mask);
            }
            let keys = group.keys.len();
            product(s, (shares, width, count, keys), (values, head, head), results, head);
            scatter(results, &group.queries, head, y);
        }
    }
}

/// The gradient of [`Attention`], to be dispatched.
pub(crate) struct AttentionGradient<'a> {
    pub heads: Heads,
    pub groups: &'a [Group],
    pub head: usize,
    /// Queries, keys and values of all slots, `[slots, 3·d]`.
    pub qkv: &'a [f32],
    /// What [`Attention`] kept.
    pub shares: &'a [f32],
    /// The gradient of the result of all heads, `[slots, d]`.
    pub dy: &'a [f32],
    /// The gradients of the head's queries, keys and values, `[3, slots, head]`, written.
    pub d_qkv: &'a mut [f32],
    pub scratch: &'a mut AttentionScratch,
}

impl WithSimd for AttentionGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { heads, groups, head: index, qkv, shares, dy, d_qkv, scratch } = self;
        let (head, d) = (heads.head, heads.width());
        let slots = qkv.len() / (3 * d);
        let (scale, at) = (1.0 / (head as f32).sqrt(), index * head);
        d_qkv.fill(0.0);
        let (d_q, d_kv) = d_qkv.split_at_mut(slots * head);
        let (d_k, d_v) = d_kv.split_at_mut(slots * head);
        let mut rest = shares;
        for group in groups {
            let (count, width, keys_count) = (group.queries.len(), group.width(), group.keys.len());
            let (shares, after) = rest.split_at(count * width);
            rest = after;
            let AttentionScratch {
                queries,
                d_queries,
                keys,
                values_turned,
                d_keys,
                d_values,
                results,
                d_scores,
                ..
            } = &mut *scratch;
            gather(dy, (at, d, head), &group.queries, 1.0, results);
            gather(qkv, (at, 3 * d, head), &group.queries, scale, queries);
            gather(qkv, (d + at, 3 * d, head), &group.keys, scale, keys);
            turn(qkv, (2 * d + at, 3 * d, head), &group.keys, width, values_turned);
            let d_scores = &mut d_scores[..count * width];
            product(s, (results, head, count, head), (values_turned, width, width), d_scores, width);
            for (d_scores, shares) in d_scores.chunks_exact_mut(width).zip(shares.chunks_exact(width)) {
                softmax_gradient(s, shares, d_scores);
            }
            product(s, (d_scores, width, count, keys_count), (keys, head, head), d_queries, head);
            scatter_add(d_queries, &group.queries, head, d_q);
            outer(s, (d_scores, width, count), (queries, head), d_keys, keys_count);
            scatter_add(d_keys, &group.keys, head, d_k);
            outer(s, (shares, width, count), (results, head), d_values, keys_count);
            scatter_add(d_values, &group.keys, head, d_v);
        }
    }
}

/// Copies a head's columns of some slots, times a factor: `[slots, head]`.
#[inline(always)]
fn gather(x: &[f32], (at, stride, head): (usize, usize, usize), slots: &[usize], scale: f32, y: &mut [f32]) {
    for (slot, y) in slots.iter().zip(y.chunks_exact_mut(head)) {
        for (y, x) in y.iter_mut().zip(&x[slot * stride + at..][..head]) {
            *y = x * scale;
        }
    }
}

/// The same, transposed: `[head, slots]`, rows of `width`.
#[inline(always)]
fn turn(x: &[f32], (at, stride, head): (usize, usize, usize), slots: &[usize], width: usize, y: &mut [f32]) {
    for (column, slot) in slots.iter().enumerate() {
        for (y, x) in y.chunks_exact_mut(width).zip(&x[slot * stride + at..][..head]) {
            y[column] = *x;
        }
    }
    for y in y.chunks_exact_mut(width).take(head) {
        y[slots.len()..].fill(0.0);
    }
}

/// Copies rows of a head to some slots.
#[inline(always)]
fn scatter(x: &[f32], slots: &[usize], head: usize, y: &mut [f32]) {
    for (slot, x) in slots.iter().zip(x.chunks_exact(head)) {
        y[slot * head..][..head].copy_from_slice(x);
    }
}

/// Adds rows of a head to some slots.
#[inline(always)]
fn scatter_add(x: &[f32], slots: &[usize], head: usize, y: &mut [f32]) {
    for (slot, x) in slots.iter().zip(x.chunks_exact(head)) {
        for (y, x) in y[slot * head..][..head].iter_mut().zip(x) {
            *y += x;
        }
    }
}

/// c = aᵀ · b: `m` columns of `a`, rows of `b` with `n` values.
#[inline(always)]
fn outer<S: Simd>(s: S, a: (&[f32], usize, usize), b: (&[f32], usize), c: &mut [f32], m: usize) {
    let n = b.1;
    let mut column = 0;
    while column < n {
        let left = (n - column) / S::F32_LANES;
        let width = left.min(2);
        let mut row = 0;
        while row < m {
            let place = (row, column);
            let height = if m - row >= 6 { 6 } else { 1 };
            match (height, width) {
                (6, 1) => outer_block::<S, 6, 1>(s, a, b, place, c),
                (6, _) => outer_block::<S, 6, 2>(s, a, b, place, c),
                (_, 1) => outer_block::<S, 1, 1>(s, a, b, place, c),
                _ => outer_block::<S, 1, 2>(s, a, b, place, c),
            }
            row += height;
        }
        column += width * S::F32_LANES;
    }
}

#[inline(always)]
fn outer_block<S: Simd, const C: usize, const N: usize>(
    s: S,
    (a, a_stride, rows): (&[f32], usize, usize),
    (b, b_stride): (&[f32], usize),
    (row, column): (usize, usize),
    c: &mut [f32],
) {
    let mut acc = [[s.splat_f32s(0.0); N]; C];
    for (a, b) in a.chunks_exact(a_stride).zip(b.chunks_exact(b_stride)).take(rows) {
        let b = vectors::<S, N>(b, column);
        let a: &[f32; C] = a[row..].first_chunk().expect("rows are padded");
        for i in 0..C {
            let a = s.splat_f32s(a[i]);
            for n in 0..N {
                acc[i][n] = s.mul_add_e_f32s(b[n], a, acc[i][n]);
            }
        }
    }
    for i in 0..C {
        *vectors_mut::<S, N>(c, (row + i) * b_stride + column) = acc[i];
    }
}

/// softmax(scores + mask), in place.
#[inline(always)]
fn softmax<S: Simd>(s: S, scores: &mut [f32], mask: &[f32]) {
    let (scores, _) = S::as_mut_simd_f32s(scores);
    let mut most = s.splat_f32s(f32::MIN);
    for (i, score) in scores.iter_mut().enumerate() {
        *score = s.add_f32s(*score, load::<S>(mask, i * S::F32_LANES));
        most = s.max_f32s(most, *score);
    }
    let most = s.splat_f32s(s.reduce_max_f32s(most));
    let mut sum = s.splat_f32s(0.0);
    let lowest = s.splat_f32s(-80.0);
    for score in &mut *scores {
        let away = s.sub_f32s(*score, most);
        // Masked keys have a share of exactly 0.
        let share = s.select_f32s(s.less_than_f32s(lowest, away), exp(s, away), s.splat_f32s(0.0));
        *score = share;
        sum = s.add_f32s(sum, share);
    }
    let scale = s.splat_f32s(1.0 / s.reduce_sum_f32s(sum));
    for score in scores {
        *score = s.mul_f32s(*score, scale);
    }
}

/// The gradient of shares to that of scores, in place.
#[inline(always)]
fn softmax_gradient<S: Simd>(s: S, shares: &[f32], gradient: &mut [f32]) {
    let (gradient, _) = S::as_mut_simd_f32s(gradient);
    let mut mean = s.splat_f32s(0.0);
    for (i, gradient) in gradient.iter().enumerate() {
        mean = s.mul_add_e_f32s(*gradient, load::<S>(shares, i * S::F32_LANES), mean);
    }
    let mean = s.splat_f32s(s.reduce_sum_f32s(mean));
    for (i, gradient) in gradient.iter_mut().enumerate() {
        *gradient = s.mul_f32s(s.sub_f32s(*gradient, mean), load::<S>(shares, i * S::F32_LANES));
    }
}

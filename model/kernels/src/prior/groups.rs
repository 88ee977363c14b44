//! Sparse attention (section 2.2): image queries in groups that see the same few keys, the caption's and their own rows' or
//! column's, instead of all keys with most of them masked.

use super::network::PriorSizes;
use super::pattern::Pattern;
use crate::grid::UNIT;
use crate::transformer::attention::{Group, GroupSize};

/// The sizes of [`groups`], without their slots and masks.
pub(super) fn group_sizes(sizes: &PriorSizes, pattern: Pattern) -> Vec<GroupSize> {
    let (text, grid, half) = (sizes.text, sizes.grid, sizes.conv_kernel / 2);
    let size = |queries, keys: usize| GroupSize { queries, width: keys.next_multiple_of(UNIT) };
    let line = |index: usize| {
        let image = match pattern {
            Pattern::Column => grid,
            Pattern::Row => (index.min(1) + 1) * grid,
            // The rows of half a kernel, and what wraps round of the row before them.
            Pattern::Conv => ((index.min(half) + 1) * grid + half).min((index + 1) * grid),
        };
        size(grid, text + image)
    };
    std::iter::once(size(text, text)).chain((0..grid).map(line)).collect()
}

/// The groups of a layer's queries.
pub(super) fn groups(sizes: &PriorSizes, pattern: Pattern) -> Vec<Group> {
    let (text, grid) = (sizes.text, sizes.grid);
    let slot = |row: usize, column: usize| text + row * grid + column;
    let sees = |query: usize, key: usize| {
        key <= query && (key < text || (query >= text && pattern.sees(sizes, query - key)))
    };
    let group =
        |queries: Vec<usize>, image: Vec<usize>| Group::new(queries, (0..text).chain(image).collect(), sees);
    let own = group((0..text).collect(), Vec::new());
    let line = |index: usize| match pattern {
        Pattern::Column => {
            let column: Vec<usize> = (0..grid).map(|row| slot(row, index)).collect();
            group(column.clone(), column)
        }
        Pattern::Row | Pattern::Conv => {
            let queries: Vec<usize> = (0..grid).map(|column| slot(index, column)).collect();
            let (first, last) = (queries[0], queries[grid - 1]);
            let seen = |key: &usize| (first..=last).any(|query| sees(query, *key));
            group(queries, (text..=last).filter(seen).collect())
        }
    };
    std::iter::once(own).chain((0..grid).map(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_sizes_are_those_of_the_groups() {
        for (text, grid, conv_kernel) in [(5, 4, 3), (32, 16, 11), (3, 2, 11), (7, 9, 5)] {
            let sizes = PriorSizes {
                layers: 4,
                heads: 2,
                head: 16,
                conv_kernel,
                text,
                grid,
                text_vocab: 11,
                image_vocab: 19,
            };
            for pattern in Pattern::ALL {
                let expected: Vec<GroupSize> = groups(&sizes, pattern).iter().map(Group::size).collect();
                assert_eq!(group_sizes(&sizes, pattern), expected, "{pattern:?} {grid} {conv_kernel}");
            }
        }
    }
}

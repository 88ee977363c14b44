//! Where the image slots that are added to a cache are kept, and what they see.

use crate::prior::network::PriorSizes;
use crate::prior::pattern::Pattern;

/// Of the rows that are added to a cache, for each pattern.
pub(super) struct Places {
    /// Where the keys and values of each row are kept.
    pub kept: [Vec<usize>; 3],
    /// Where the keys are kept that each row sees.
    pub seen: [Vec<Vec<usize>>; 3],
}

impl Places {
    /// For rows of samples and raster positions.
    pub fn new(sizes: &PriorSizes, rows: &[(usize, usize)]) -> Self {
        let all = |pattern: Pattern| {
            let first = move |sample: usize| sample * pattern.capacity(sizes);
            let row = |&(sample, position): &(usize, usize)| {
                let seen = pattern.seen(sizes, position).into_iter().map(|slot| first(sample) + slot);
                (first(sample) + pattern.index(sizes, position), seen.collect::<Vec<_>>())
            };
            rows.iter().map(row).unzip()
        };
        let [(row, row_seen), (column, column_seen), (conv, conv_seen)] = Pattern::ALL.map(all);
        Self { kept: [row, column, conv], seen: [row_seen, column_seen, conv_seen] }
    }
}

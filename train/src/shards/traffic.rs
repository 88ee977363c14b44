//! Bytes that a rank sends in an update.

use std::collections::BTreeMap;

use dalle_model::burn::module::Module;

use super::compression::resblock;
use super::layout::RowLayout;

/// Bytes of a value as f32.
const WIDE: usize = 4;
/// Bytes of a value of P or Q.
const NARROW: usize = 2;

/// What the first rank of a machine, which has most rows, sends in an update, beside norms, metrics and signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateTraffic {
    /// Bytes to the other ranks of its machine: gradients and weights.
    pub in_machine: usize,
    /// Bytes to other machines.
    pub between_machines: usize,
    /// Values of P and Q, and of the matrices that they stand for; the same if nothing is compressed.
    pub compressed: [usize; 2],
}

impl UpdateTraffic {
    /// Of training `network` on so many machines of `per_machine` ranks, whose gradients are compressed to `columns` columns, if they are.
    /// Allocates no parameters.
    pub fn of<M: Module>(network: &M, machines: usize, per_machine: usize, columns: Option<usize>) -> Self {
        let layout = RowLayout::of(network, per_machine);
        // Gradients are scattered and weights are gathered.
        let in_machine = 2 * (per_machine - 1) * layout.part() * WIDE;
        // An all-reduce scatters and gathers too.
        let sum = |values: usize, width: usize| 2 * (machines - 1) * values.div_ceil(machines) * width;
        let Some(columns) = columns.filter(|_| machines > 1) else {
            let between_machines = sum(layout.part(), WIDE);
            return Self { in_machine, between_machines, compressed: [layout.part(); 2] };
        };
        let (mut resblocks, mut whole) = (BTreeMap::<usize, [usize; 2]>::new(), 0);
        for own in layout.own(0) {
            if let Some(index) = resblock(&own.parameter.path, own.parameter.shape.len()) {
                let sides = [own.rows.len(), own.parameter.width()];
                let [short, long] = [sides[0].min(sides[1]), sides[0].max(sides[1])];
                let [p, q] = resblocks.entry(index).or_default();
                *p += short * columns.min(short);
                *q += long * columns.min(short);
                whole += short * long;
            }
        }
        let factors = resblocks.values().flatten();
        let between_machines = sum(layout.part() - whole, WIDE)
            + factors.clone().map(|values| sum(*values, NARROW)).sum::<usize>();
        Self { in_machine, between_machines, compressed: [factors.sum(), whole] }
    }
}

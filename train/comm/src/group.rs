//! Which ranks take part in a collective.

/// A group of ranks. Every rank is in one group of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// All ranks.
    World,
    /// The ranks of one machine, which share the parameters of a model.
    Machine,
    /// The ranks with the same place in their machines, which hold the same part of the parameters.
    Peers,
}

impl Group {
    /// All kinds of groups.
    pub const ALL: [Self; 3] = [Self::World, Self::Machine, Self::Peers];
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::World => "all ranks",
            Self::Machine => "the ranks of one machine",
            Self::Peers => "the ranks with the same place in their machines",
        })
    }
}

/// Where a rank is in its three groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout([Members; 3]);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Members {
    /// Index of this rank in `ranks`.
    place: usize,
    /// Ranks of the group among all ranks, in order.
    ranks: Vec<usize>,
}

impl Layout {
    /// Rank `rank` of `size`, of which `per_machine` after each other form a machine.
    ///
    /// # Panics
    /// If `per_machine` does not divide `size`, or there is no such rank.
    pub fn contiguous(rank: usize, size: usize, per_machine: usize) -> Self {
        assert!(
            rank < size && size.is_multiple_of(per_machine),
            "rank {rank} of {size}, {per_machine} a machine"
        );
        Self::new(rank, &(0..size).map(|rank| rank / per_machine).collect::<Vec<_>>())
    }

    /// Rank `rank` where rank i is on machine `machines[i]`. All machines have the same number of ranks.
    pub(crate) fn new(rank: usize, machines: &[usize]) -> Self {
        let place_in_machine =
            |rank: usize| machines[..rank].iter().filter(|&&machine| machine == machines[rank]).count();
        let members =
            |ranks: Vec<usize>| Members { place: ranks.partition_point(|&other| other < rank), ranks };
        let all = 0..machines.len();
        let machine = all.clone().filter(|&other| machines[other] == machines[rank]);
        let peers = all.filter(|&other| place_in_machine(other) == place_in_machine(rank));
        Self([members((0..machines.len()).collect()), members(machine.collect()), members(peers.collect())])
    }

    /// This rank's index in a group.
    pub fn rank(&self, group: Group) -> usize {
        self.0[group as usize].place
    }

    /// Ranks in a group.
    pub fn size(&self, group: Group) -> usize {
        self.0[group as usize].ranks.len()
    }

    /// The ranks of a group, as they are numbered among all ranks.
    pub fn members(&self, group: Group) -> &[usize] {
        &self.0[group as usize].ranks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_and_peers_are_rows_and_columns_of_the_ranks() {
        // 6 ranks on 2 machines: 0 1 2 | 3 4 5.
        let layout = Layout::contiguous(4, 6, 3);
        assert_eq!(layout.members(Group::World), [0, 1, 2, 3, 4, 5]);
        assert_eq!(layout.members(Group::Machine), [3, 4, 5]);
        assert_eq!(layout.members(Group::Peers), [1, 4]);
        assert_eq!(Group::ALL.map(|group| layout.rank(group)), [4, 1, 1]);
    }

    #[test]
    fn ranks_may_be_dealt_out_to_machines_in_turn() {
        let layout = Layout::new(3, &[0, 1, 0, 1]);
        assert_eq!(layout.members(Group::Machine), [1, 3]);
        assert_eq!(layout.members(Group::Peers), [2, 3]);
        assert_eq!(Group::ALL.map(|group| layout.rank(group)), [3, 1, 1]);
    }
}

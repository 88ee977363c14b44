//! How many ranks can be on each machine.

use crate::Failure;

/// Refuses ranks that cannot be dealt out to machines evenly.
pub(crate) fn check_machines(size: usize, per_machine: usize) -> Result<(), Failure> {
    if per_machine == 0 || size == 0 || !size.is_multiple_of(per_machine) {
        return Err(Failure::Setup(format!(
            "{size} ranks with {per_machine} on each machine: expected a number of ranks that is a multiple of those on a machine"
        )));
    }
    Ok(())
}

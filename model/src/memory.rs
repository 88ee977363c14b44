//! How much memory a device has free, and the refusal of what cannot fit: before anything is allocated.

use nvml_wrapper::Nvml;
use nvml_wrapper::struct_wrappers::device::MemoryInfo;
use sysinfo::System;

use crate::device::DeviceName;

/// Something needs more memory than there is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} needs {} and {device} has {} free; `dalle plan` shows what needs how much",
    gigabytes(*needed),
    gigabytes(*free)
)]
pub struct DoesNotFit {
    /// What.
    pub what: String,
    /// Bytes it needs.
    pub needed: u64,
    /// Where.
    pub device: DeviceName,
    /// Bytes that are free there.
    pub free: u64,
}

/// Refuses what needs more bytes than are free. Where nobody knows how many are, nothing is refused.
///
/// # Errors
/// [`DoesNotFit`].
pub fn check(what: &str, needed: u64, device: DeviceName) -> Result<(), DoesNotFit> {
    match free(device) {
        Some(free) if free < needed => Err(DoesNotFit { what: what.to_owned(), needed, device, free }),
        _ => Ok(()),
    }
}

/// Bytes free on a device, if it can be known.
pub fn free(device: DeviceName) -> Option<u64> {
    match device {
        DeviceName::Cpu | DeviceName::LibTorch => {
            let mut system = System::new();
            system.refresh_memory();
            let free = system.available_memory();
            // A container may be allowed less than the machine has.
            Some(system.cgroup_limits().map_or(free, |limits| free.min(limits.free_memory)))
        }
        DeviceName::Cuda(index) => nvidia(index).map(|memory| memory.free),
        DeviceName::Wgpu => None,
    }
}

/// Free and used bytes of a CUDA device, from NVIDIA's driver.
fn nvidia(index: usize) -> Option<MemoryInfo> {
    let driver = Nvml::init().ok()?;
    driver.device_by_index(u32::try_from(index).ok()?).ok()?.memory_info().ok()
}

/// Bytes in use on a CUDA device, if it can be known.
pub fn used(device: DeviceName) -> Option<u64> {
    match device {
        DeviceName::Cuda(index) => nvidia(index).map(|memory| memory.used),
        DeviceName::Cpu | DeviceName::LibTorch | DeviceName::Wgpu => None,
    }
}

/// Bytes as a person reads them.
pub fn gigabytes(bytes: u64) -> String {
    match bytes {
        0..100_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        100_000_000..100_000_000_000 => format!("{:.2} GB", bytes as f64 / 1e9),
        _ => format!("{:.0} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_fit_is_refused_with_its_numbers() {
        assert_eq!(check("a little", 1 << 20, DeviceName::Cpu), Ok(()));
        let error = check("everything", u64::MAX, DeviceName::Cpu).unwrap_err();
        assert!(error.free > 1 << 20);
        assert!(error.to_string().starts_with("everything needs 18446744074 GB and cpu has "), "{error}");
    }

    #[test]
    fn bytes_are_readable() {
        assert_eq!(gigabytes(2_345_678), "2.3 MB");
        assert_eq!(gigabytes(24_700_000_000), "24.70 GB");
    }
}

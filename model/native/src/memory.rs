//! The free memory of devices, and errors for what does not fit, before anything is allocated.

use std::env;

use nvml_wrapper::Nvml;
use nvml_wrapper::struct_wrappers::device::MemoryInfo;
use sysinfo::System;

use crate::device::DeviceName;

/// Something needs more memory than is free.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} needs {} and {device} has {} free; `dalle plan` shows where memory is needed",
    gigabytes(*needed),
    gigabytes(*free)
)]
pub struct DoesNotFit {
    /// What needs the memory.
    pub what: String,
    /// Bytes needed.
    pub needed: u64,
    /// The device.
    pub device: DeviceName,
    /// Bytes free on the device.
    pub free: u64,
}

/// Checks that `needed` bytes are free. Passes if the free memory is unknown.
///
/// # Errors
/// [`DoesNotFit`].
pub fn check(what: &str, needed: u64, device: DeviceName) -> Result<(), DoesNotFit> {
    match free(device) {
        Some(free) if free < needed => Err(DoesNotFit { what: what.to_owned(), needed, device, free }),
        _ => Ok(()),
    }
}

/// Bytes free on a device, if known.
pub fn free(device: DeviceName) -> Option<u64> {
    match device {
        DeviceName::Cpu | DeviceName::LibTorch => {
            let mut system = System::new();
            system.refresh_memory();
            let free = system.available_memory();
            // A container may be limited to less than the machine has.
            Some(system.cgroup_limits().map_or(free, |limits| free.min(limits.free_memory)))
        }
        DeviceName::Cuda(index) => cuda(index).map(|memory| memory.free),
        DeviceName::Wgpu => None,
    }
}

/// Bytes in use on a CUDA device, if known.
pub fn used(device: DeviceName) -> Option<u64> {
    match device {
        DeviceName::Cuda(index) => cuda(index).map(|memory| memory.used),
        DeviceName::Cpu | DeviceName::LibTorch | DeviceName::Wgpu => None,
    }
}

/// Memory of a CUDA device, from NVIDIA's management library (NVML).
fn cuda(index: usize) -> Option<MemoryInfo> {
    let visible = env::var("CUDA_VISIBLE_DEVICES").ok();
    let driver = Nvml::init().ok()?;
    let device = match physical(index, visible.as_deref())? {
        Physical::Index(index) => driver.device_by_index(index),
        Physical::Uuid(uuid) => driver.device_by_uuid(uuid),
    };
    device.ok()?.memory_info().ok()
}

/// A GPU as NVML identifies it.
#[derive(Debug, PartialEq, Eq)]
enum Physical<'a> {
    Index(u32),
    Uuid(&'a str),
}

/// The GPU that `cuda:index` refers to. CUDA counts the devices in `CUDA_VISIBLE_DEVICES`, NVML all devices of the machine.
fn physical(index: usize, visible: Option<&str>) -> Option<Physical<'_>> {
    let Some(visible) = visible else { return u32::try_from(index).ok().map(Physical::Index) };
    let name = visible.split(',').nth(index)?.trim();
    if name.starts_with("GPU-") { Some(Physical::Uuid(name)) } else { name.parse().ok().map(Physical::Index) }
}

/// Formats a number of bytes.
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
    fn what_does_not_fit_is_refused_with_the_numbers() {
        assert_eq!(check("a little", 1 << 20, DeviceName::Cpu), Ok(()));
        let error = check("everything", u64::MAX, DeviceName::Cpu).unwrap_err();
        assert!(error.free > 1 << 20);
        assert!(error.to_string().starts_with("everything needs 18446744074 GB and cpu has "), "{error}");
    }

    #[test]
    fn cuda_visible_devices_selects_the_gpu_whose_memory_is_read() {
        assert_eq!(physical(1, None), Some(Physical::Index(1)));
        assert_eq!(physical(1, Some("3, 2")), Some(Physical::Index(2)));
        assert_eq!(physical(0, Some("GPU-8932f937")), Some(Physical::Uuid("GPU-8932f937")));
        for (index, visible) in [(1, "3"), (0, ""), (0, "-1"), (0, "MIG-5c6b")] {
            assert_eq!(physical(index, Some(visible)), None, "{index} of {visible}");
        }
    }

    #[test]
    fn bytes_are_readable() {
        assert_eq!(gigabytes(2_345_678), "2.3 MB");
        assert_eq!(gigabytes(24_700_000_000), "24.70 GB");
    }
}

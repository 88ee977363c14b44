//! How much memory a device has free, and the refusal of what cannot fit: before anything is allocated.

use std::process::Command;

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
        DeviceName::Cuda(index) => nvidia_smi(index, "memory.free"),
        DeviceName::Wgpu => None,
    }
}

/// Bytes in use on a CUDA device, or the most that this process has used of the machine's memory so far, if it can be known.
pub fn used(device: DeviceName) -> Option<u64> {
    match device {
        DeviceName::Cuda(index) => nvidia_smi(index, "memory.used"),
        DeviceName::Cpu | DeviceName::LibTorch | DeviceName::Wgpu => {
            let status = std::fs::read_to_string("/proc/self/status").ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
        }
    }
}

/// A figure in MiB from the driver's own tool, in bytes.
fn nvidia_smi(index: usize, figure: &str) -> Option<u64> {
    let mut command = Command::new("nvidia-smi");
    command.arg(format!("--id={index}")).arg(format!("--query-gpu={figure}"));
    let output = command.arg("--format=csv,noheader,nounits").output().ok()?;
    str::from_utf8(&output.stdout).ok()?.trim().parse::<u64>().ok().map(|mebibytes| mebibytes << 20)
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

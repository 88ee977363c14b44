//! Where a network runs, as a person writes it: `cpu`, `cuda:1`, `wgpu`, `libtorch`.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{Device, FloatDType};

use crate::precision::Precision;

/// A device by name. Naming one starts nothing; [`open`](Self::open) does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceName {
    /// This machine's processor.
    #[default]
    Cpu,
    /// The CUDA device with this index.
    Cuda(usize),
    /// The system's preferred GPU through Vulkan, Metal or Direct3D.
    Wgpu,
    /// This machine's processor through LibTorch's kernels, whose convolutions train several times faster.
    LibTorch,
}

/// A device that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No such name.
    #[error("expected `cpu`, `cuda:N` (such as `cuda:0`), `wgpu` or `libtorch`, got `{0}`")]
    Unknown(String),
    /// The program was built without this backend.
    #[error("this program was built without {device}; build it with `--features {feature}`")]
    NotBuilt {
        /// What was asked for.
        device: DeviceName,
        /// The cargo feature that brings it.
        feature: &'static str,
    },
    /// It is not there, or does not work.
    #[error("{device} cannot be used; expected {}; it said: {cause}", match device {
        DeviceName::Cuda(_) => "an NVIDIA GPU of this number, its driver, and CUDA's libraries",
        _ => "a GPU with a driver for Vulkan, Metal or Direct3D",
    })]
    Unusable {
        /// What was asked for.
        device: DeviceName,
        /// What its backend said, or the beginning of that.
        cause: String,
    },
    /// It does not compute in this type.
    #[error("{device} does not compute in {precision}; choose another --dtype")]
    Precision {
        /// What was asked for.
        device: DeviceName,
        /// The type.
        precision: Precision,
    },
}

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            None if text == "wgpu" => Ok(Self::Wgpu),
            None if text == "libtorch" => Ok(Self::LibTorch),
            Some(("cuda", index)) => {
                index.parse().map(Self::Cuda).map_err(|_| DeviceError::Unknown(text.to_owned()))
            }
            _ => Err(DeviceError::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Wgpu => f.write_str("wgpu"),
            Self::LibTorch => f.write_str("libtorch"),
        }
    }
}

impl DeviceName {
    /// The device, for a prior of this precision.
    ///
    /// # Errors
    /// As [`open`](Self::open), or [`DeviceError::Precision`] if it does not compute in that type.
    pub fn open_for(self, precision: Precision) -> Result<Device, DeviceError> {
        let device = self.open()?;
        if device.supports_dtype(FloatDType::from(precision)) {
            Ok(device)
        } else {
            Err(DeviceError::Precision { device: self, precision })
        }
    }

    /// The device.
    ///
    /// # Errors
    /// [`DeviceError::NotBuilt`] if this build has no such backend, [`DeviceError::Unusable`] if this machine has no such device.
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => self.tried(Device::cuda(index)),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => Err(DeviceError::NotBuilt { device: self, feature: "cuda" }),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => self.tried(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(not(feature = "wgpu"))]
            Self::Wgpu => Err(DeviceError::NotBuilt { device: self, feature: "wgpu" }),
            #[cfg(feature = "tch")]
            #[allow(deprecated, reason = "see docs/decisions/0003-one-burn-build.md")]
            Self::LibTorch => Ok(Device::libtorch()),
            #[cfg(not(feature = "tch"))]
            Self::LibTorch => Err(DeviceError::NotBuilt { device: self, feature: "tch" }),
        }
    }

    /// The device, once it has computed something: that a driver or a library is missing shows when it is used, and Burn's backends
    /// panic then.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    fn tried(self, device: Device) -> Result<Device, DeviceError> {
        use std::panic;
        use std::sync::{Arc, Mutex, PoisonError};

        /// Characters of what it said that are told: names of all libraries that were looked for may follow.
        const TOLD: usize = 120;
        let first = Arc::new(Mutex::new(None));
        let heard = Arc::clone(&first);
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let said = panic.payload_as_str().unwrap_or("nothing");
            let told = match said.char_indices().nth(TOLD) {
                Some((end, _)) => format!("{}…", &said[..end]),
                None => said.to_owned(),
            };
            heard.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(told);
        }));
        let worked =
            panic::catch_unwind(|| burn::tensor::Tensor::<1>::ones([1], &device).try_into_vec_as::<f32>());
        panic::set_hook(hook);
        let error = match worked {
            Ok(Ok(_)) => return Ok(device),
            Ok(Err(error)) => error.to_string(),
            Err(_) => String::new(),
        };
        // What panicked first is the cause; the error is often what followed from it in another thread.
        let cause = first.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(error);
        Err(DeviceError::Unusable { device: self, cause })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_computes_in_every_type() {
        for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
            assert!(DeviceName::Cpu.open_for(precision).is_ok(), "{precision}");
        }
    }

    #[test]
    fn names_survive_and_rubbish_is_refused() {
        for name in [
            DeviceName::Cpu,
            DeviceName::Cuda(0),
            DeviceName::Cuda(3),
            DeviceName::Wgpu,
            DeviceName::LibTorch,
        ] {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        assert_eq!("cuda".parse(), Ok(DeviceName::Cuda(0)));
        for rubbish in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "CPU"] {
            assert_eq!(rubbish.parse::<DeviceName>(), Err(DeviceError::Unknown(rubbish.to_owned())));
        }
    }
}

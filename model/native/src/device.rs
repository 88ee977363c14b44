//! Devices by name: `cpu`, `cuda:1`, `wgpu`, `libtorch`.
//!
//! ```text
//! let device = "cuda:1".parse::<DeviceName>()?.open_for(Precision::Bf16)?;
//! ```

use std::fmt;
use std::str::FromStr;

use dalle_model::Device;
use dalle_model::burn::tensor::FloatDType;
use dalle_model::footprint::Computed;
use dalle_model::precision::Precision;

/// The name of a device. [`open`](Self::open) opens it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceName {
    /// The CPU.
    #[default]
    Cpu,
    /// The CUDA device with this index.
    Cuda(usize),
    /// The system's preferred GPU through Vulkan, Metal or Direct3D.
    Wgpu,
    /// The CPU through LibTorch.
    LibTorch,
}

/// Why a device cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Not the name of a device.
    #[error("expected `cpu`, `cuda:N` (such as `cuda:0`), `wgpu` or `libtorch`, got `{0}`")]
    Unknown(String),
    /// The program was built without this backend.
    #[error("this program was built without {device}; build it with `--features {feature}`")]
    NotBuilt {
        /// The device.
        device: DeviceName,
        /// The cargo feature that adds it.
        feature: &'static str,
    },
    /// The device is missing or does not work.
    #[error("{device} cannot be used; expected {}; {cause}", match device {
        DeviceName::Cuda(_) => "an NVIDIA GPU with this index, its driver, and CUDA's libraries",
        _ => "a GPU with a driver for Vulkan, Metal or Direct3D",
    })]
    Unusable {
        /// The device.
        device: DeviceName,
        /// The devices that the driver lists, or the failure.
        cause: String,
    },
    /// The device does not support this type.
    #[error("{device} does not support {precision}; choose another --dtype")]
    Precision {
        /// The device.
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
    /// What computes a network; `supported` says whether there are kernels for its sizes.
    pub fn computed(self, supported: bool) -> Computed {
        match self {
            Self::Cpu if supported => Computed::on_all_threads(),
            _ => Computed::Burn,
        }
    }

    /// Opens the device for a prior in this type.
    ///
    /// # Errors
    /// As [`open`](Self::open), or [`DeviceError::Precision`] if the device does not support the type.
    pub fn open_for(self, precision: Precision) -> Result<Device, DeviceError> {
        let device = self.open()?;
        if device.supports_dtype(FloatDType::from(precision)) {
            Ok(device)
        } else {
            Err(DeviceError::Precision { device: self, precision })
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// [`DeviceError::NotBuilt`] if this build has no such backend, [`DeviceError::Unusable`] if this machine has no such device.
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => self.open_cuda(index),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => Err(DeviceError::NotBuilt { device: self, feature: "cuda" }),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => self.open_wgpu(),
            #[cfg(not(feature = "wgpu"))]
            Self::Wgpu => Err(DeviceError::NotBuilt { device: self, feature: "wgpu" }),
            #[cfg(feature = "tch")]
            #[allow(deprecated, reason = "see docs/decisions/0003-one-burn-build.md")]
            Self::LibTorch => Ok(Device::libtorch()),
            #[cfg(not(feature = "tch"))]
            Self::LibTorch => Err(DeviceError::NotBuilt { device: self, feature: "tch" }),
        }
    }

    /// Asks CUDA's driver for its devices first, because Burn panics if the device is missing.
    #[cfg(feature = "cuda")]
    fn open_cuda(self, index: usize) -> Result<Device, DeviceError> {
        use dalle_model::burn::tensor::DeviceType;

        match Device::enumerate(DeviceType::Cuda).len() {
            0 => Err(self.unusable("CUDA's driver is missing or lists no GPU")),
            1 if index > 0 => Err(self.unusable("CUDA's driver lists only cuda:0")),
            count if index >= count => {
                Err(self.unusable(format!("CUDA's driver lists cuda:0 to cuda:{}", count - 1)))
            }
            _ => self.try_out(Device::cuda(index)),
        }
    }

    /// Asks the graphics drivers for their adapters first, because Burn panics if there is none.
    #[cfg(feature = "wgpu")]
    fn open_wgpu(self) -> Result<Device, DeviceError> {
        use dalle_model::burn::tensor::{DeviceKind, DeviceType};

        if Device::enumerate(DeviceType::Wgpu).is_empty() {
            return Err(self.unusable("no driver lists an adapter"));
        }
        self.try_out(Device::wgpu(DeviceKind::DefaultDevice))
    }

    /// The device, after a first computation. A missing library shows only then, and as a panic of Burn.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    fn try_out(self, device: Device) -> Result<Device, DeviceError> {
        use dalle_model::burn::tensor::Tensor;

        match std::panic::catch_unwind(|| Tensor::<1>::ones([1], &device).try_into_vec_as::<f32>()) {
            Ok(Ok(_)) => Ok(device),
            Ok(Err(error)) => Err(self.unusable(format!("its first computation failed: {error}"))),
            Err(_) => Err(self.unusable("its first computation failed with the panic printed above")),
        }
    }

    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    fn unusable(self, cause: impl Into<String>) -> DeviceError {
        DeviceError::Unusable { device: self, cause: cause.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_computes_in_every_precision() {
        for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
            assert!(DeviceName::Cpu.open_for(precision).is_ok(), "{precision}");
        }
    }

    #[test]
    fn device_names_round_trip_and_others_are_refused() {
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

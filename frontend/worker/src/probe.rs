//! Chooses the device to decode on, from the properties of the browser's WebGPU adapter.

use dalle_shared::{DecoderDevice, DeviceChoice};
use serde::Deserialize;

/// The WebGPU adapter, as `worker.js` describes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adapter {
    /// Its name, as far as the browser reveals it.
    pub name: String,
    /// It computes on the CPU (SwiftShader, llvmpipe, WARP).
    pub software: bool,
    /// It has the feature `timestamp-query`, without which Burn's WebGPU runtime panics.
    pub timestamp_query: bool,
    /// Limit `maxStorageBufferBindingSize`, bytes.
    pub storage_binding: u64,
    /// Limit `maxComputeWorkgroupStorageSize`, bytes.
    pub workgroup_storage: u64,
    /// Limit `maxComputeInvocationsPerWorkgroup`.
    pub workgroup_invocations: u64,
}

/// WebGPU's default limits, which the kernels are written for. The decoder's largest feature map at the paper's size has 64 MiB.
const STORAGE_BINDING: u64 = 128 << 20;
const WORKGROUP_STORAGE: u64 = 16 << 10;
const WORKGROUP_INVOCATIONS: u64 = 256;

/// Why an adapter cannot be used.
fn unusable(adapter: &Adapter) -> Option<String> {
    let name = &adapter.name;
    if !adapter.timestamp_query {
        return Some(format!("the WebGPU adapter {name} lacks timestamp-query"));
    }
    [
        ("maxStorageBufferBindingSize", adapter.storage_binding, STORAGE_BINDING),
        ("maxComputeWorkgroupStorageSize", adapter.workgroup_storage, WORKGROUP_STORAGE),
        ("maxComputeInvocationsPerWorkgroup", adapter.workgroup_invocations, WORKGROUP_INVOCATIONS),
    ]
    .into_iter()
    .find(|(_, got, needed)| got < needed)
    .map(|(limit, got, needed)| format!("the WebGPU adapter {name} has {limit} {got}, {needed} is needed"))
}

/// What a program decodes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The device.
    pub device: DecoderDevice,
    /// Whether this is the program for the CPU, and the program for GPUs may decode faster.
    pub gpu: bool,
}

/// The name of the adapter to decode on.
fn adapter_for(choice: DeviceChoice, adapter: Option<&Adapter>) -> Result<&str, String> {
    if choice == DeviceChoice::Cpu {
        return Err("the CPU was asked for".to_owned());
    }
    let adapter = adapter.ok_or("this browser offers no WebGPU adapter")?;
    unusable(adapter).map_or(Ok(()), Err)?;
    if adapter.software && choice == DeviceChoice::Auto {
        return Err(format!("the WebGPU adapter {} is software, which is slower", adapter.name));
    }
    Ok(&adapter.name)
}

/// The choice of the program for the CPU.
pub fn cpu(choice: DeviceChoice, adapter: Option<&Adapter>) -> Choice {
    let adapter = adapter_for(choice, adapter);
    let gpu = adapter.is_ok();
    let why = match adapter {
        Ok(name) => format!("the decoder for the WebGPU adapter {name} is being loaded"),
        Err(why) => why,
    };
    Choice { device: DecoderDevice::Cpu { why }, gpu }
}

/// The choice of the program for GPUs.
///
/// # Errors
/// Why it cannot decode here.
pub fn gpu(choice: DeviceChoice, adapter: Option<&Adapter>) -> Result<Choice, String> {
    let adapter = adapter_for(choice, adapter)?.to_owned();
    Ok(Choice { device: DecoderDevice::Webgpu { adapter }, gpu: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter() -> Adapter {
        Adapter {
            name: "A".into(),
            software: false,
            timestamp_query: true,
            storage_binding: STORAGE_BINDING,
            workgroup_storage: WORKGROUP_STORAGE,
            workgroup_invocations: WORKGROUP_INVOCATIONS,
        }
    }

    fn is_found(choice: DeviceChoice, adapter: Option<&Adapter>) -> bool {
        let found = cpu(choice, adapter).gpu;
        let on_gpu = gpu(choice, adapter);
        assert_eq!(on_gpu.is_ok(), found, "the programs agree");
        assert!(on_gpu.is_ok_and(|choice| !choice.gpu) || !found, "the program for GPUs looks for no other");
        found
    }

    #[test]
    fn a_real_gpu_is_used_unless_the_cpu_is_asked_for() {
        assert!(is_found(DeviceChoice::Auto, Some(&adapter())));
        assert!(is_found(DeviceChoice::Webgpu, Some(&adapter())));
        assert!(!is_found(DeviceChoice::Cpu, Some(&adapter())));
    }

    #[test]
    fn a_software_adapter_is_used_only_if_asked_for() {
        let software = Adapter { software: true, ..adapter() };
        assert!(!is_found(DeviceChoice::Auto, Some(&software)));
        assert!(is_found(DeviceChoice::Webgpu, Some(&software)));
    }

    #[test]
    fn what_is_missing_is_named_and_asking_for_webgpu_fails() {
        let cases = [
            (None, "no WebGPU adapter"),
            (Some(Adapter { timestamp_query: false, ..adapter() }), "timestamp-query"),
            (Some(Adapter { storage_binding: 1, ..adapter() }), "maxStorageBufferBindingSize 1"),
            (Some(Adapter { workgroup_storage: 1, ..adapter() }), "maxComputeWorkgroupStorageSize 1"),
            (Some(Adapter { workgroup_invocations: 1, ..adapter() }), "maxComputeInvocationsPerWorkgroup 1"),
        ];
        for (adapter, word) in cases {
            let Choice { device: DecoderDevice::Cpu { why }, gpu: false } =
                cpu(DeviceChoice::Auto, adapter.as_ref())
            else {
                panic!("{adapter:?} was chosen");
            };
            assert!(why.contains(word), "{why}");
            assert_eq!(gpu(DeviceChoice::Webgpu, adapter.as_ref()), Err(why));
        }
    }
}

//! The choice of the device to decode on, from what the browser says about its WebGPU adapter.

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

/// The device for this choice and adapter.
///
/// # Errors
/// Why WebGPU cannot be used, if it was asked for.
pub fn choose(choice: DeviceChoice, adapter: Option<&Adapter>) -> Result<DecoderDevice, String> {
    let refusal = match adapter {
        None => Some("this browser offers no WebGPU adapter".to_owned()),
        Some(adapter) => unusable(adapter),
    };
    match (choice, adapter, refusal) {
        (DeviceChoice::Cpu, _, _) => Ok(DecoderDevice::Cpu { why: "the CPU was asked for".to_owned() }),
        (DeviceChoice::Webgpu, _, Some(why)) => Err(why),
        (DeviceChoice::Auto, _, Some(why)) => Ok(DecoderDevice::Cpu { why }),
        (DeviceChoice::Auto, Some(adapter), None) if adapter.software => Ok(DecoderDevice::Cpu {
            why: format!("the WebGPU adapter {} is software, which is slower", adapter.name),
        }),
        (_, adapter, None) => Ok(DecoderDevice::Webgpu {
            adapter: adapter.map(|adapter| adapter.name.clone()).unwrap_or_default(),
        }),
    }
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

    fn is_gpu(choice: DeviceChoice, adapter: Option<&Adapter>) -> bool {
        matches!(choose(choice, adapter), Ok(DecoderDevice::Webgpu { .. }))
    }

    #[test]
    fn a_real_gpu_is_used_unless_the_cpu_is_asked_for() {
        assert!(is_gpu(DeviceChoice::Auto, Some(&adapter())));
        assert!(is_gpu(DeviceChoice::Webgpu, Some(&adapter())));
        assert!(!is_gpu(DeviceChoice::Cpu, Some(&adapter())));
    }

    #[test]
    fn a_software_adapter_is_used_only_if_asked_for() {
        let software = Adapter { software: true, ..adapter() };
        assert!(!is_gpu(DeviceChoice::Auto, Some(&software)));
        assert!(is_gpu(DeviceChoice::Webgpu, Some(&software)));
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
            let Ok(DecoderDevice::Cpu { why }) = choose(DeviceChoice::Auto, adapter.as_ref()) else {
                panic!("{adapter:?} was chosen");
            };
            assert!(why.contains(word), "{why}");
            assert_eq!(choose(DeviceChoice::Webgpu, adapter.as_ref()), Err(why));
        }
    }
}

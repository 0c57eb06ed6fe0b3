//! What the page in the browser calls: a device, the golden cases, the bench and the demo.
//!
//! Everything crosses to JavaScript as numbers, typed arrays or JSON text. Nothing blocks: what waits for the GPU is
//! an `async fn`, a promise on the other side, and the page goes on drawing meanwhile.

mod bench;
mod check;
mod clouds;
mod demo;

#[path = "../../../benches/kernels/data.rs"]
#[allow(dead_code, reason = "the native benches use the rest")]
mod batch;
#[path = "../../../tests/support/cases.rs"]
mod cases;
#[path = "../../../benches/measure/copy.rs"]
mod copy;
#[path = "../../../tests/support/golden.rs"]
mod golden;
#[path = "../../../examples/train_imbalanced/model.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod model;
#[path = "../../../examples/train_imbalanced/network.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod network;
#[path = "../../../tests/support/on_device.rs"]
mod on_device;
#[path = "../../../tests/support/rules.rs"]
mod rules;
#[path = "../../../tests/support/work.rs"]
mod work;

use std::sync::Arc;

use wasm_bindgen::prelude::*;
use wgpu_cross_entropy::Gpu;
use wgpu_cross_entropy::error::DeviceError;

#[wasm_bindgen]
extern "C" {
    /// The page's own: shows what the device says when nobody asked.
    #[wasm_bindgen(js_name = reportDeviceError)]
    fn report_device_error(message: &str);
}

/// Panics go to the console with their message.
#[wasm_bindgen(start)]
fn start() {
    console_error_panic_hook::set_once();
}

/// An opened adapter.
#[wasm_bindgen]
pub struct Device {
    gpu: Gpu,
}

#[wasm_bindgen]
impl Device {
    /// Asks the browser for its fastest adapter and opens it.
    pub async fn open() -> Result<Device, JsError> {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::BROWSER_WEBGPU;
        let instance = wgpu::Instance::new(descriptor);
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        let adapter = instance.request_adapter(&options).await.map_err(|_| DeviceError::NoAdapter)?;
        let gpu = Gpu::open(&adapter).await?;
        gpu.device.on_uncaptured_error(Arc::new(|error| report_device_error(&error.to_string())));
        gpu.device.set_device_lost_callback(|reason, message| {
            // Dropping the device at the end of a page's life is no news.
            if reason != wgpu::DeviceLostReason::Destroyed {
                report_device_error(&format!("the device is lost: {message}"));
            }
        });
        Ok(Self { gpu })
    }

    /// Whether the adapter says that it is a CPU.
    pub fn is_cpu(&self) -> bool {
        self.gpu.info.device_type == wgpu::DeviceType::Cpu
    }

    /// The limits that decide how large a batch may be, for people: name and value by turns.
    pub fn limits(&self) -> Vec<String> {
        let limits = self.gpu.device.limits();
        let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
        [
            ("largest binding", mib(limits.max_storage_buffer_binding_size)),
            ("largest buffer", mib(limits.max_buffer_size)),
            ("threads in a workgroup", limits.max_compute_invocations_per_workgroup.to_string()),
            ("timestamps", if self.has_timestamps() { "yes".into() } else { "no".into() }),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
    }

    fn has_timestamps(&self) -> bool {
        self.gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY)
    }
}

//! A device for those who own none: chosen by the environment, with all that the kernels can use.

use crate::error::DeviceError;

/// An adapter's device and queue.
#[derive(Clone, Debug)]
pub struct Gpu {
    /// What the adapter says of itself.
    pub info: wgpu::AdapterInfo,
    /// The device.
    pub device: wgpu::Device,
    /// Its queue.
    pub queue: wgpu::Queue,
}

/// Which adapter to take.
#[derive(Clone, Debug, Default)]
pub struct DeviceOptions {
    /// A part of the adapter's name, whatever its case. `None`: the environment's `WGPU_ADAPTER_NAME`, or the best.
    pub adapter_name: Option<String>,
    /// Which back ends to look at. `None`: the environment's `WGPU_BACKEND` (`vulkan,gl,...`), or all.
    pub backends: Option<wgpu::Backends>,
}

impl Gpu {
    /// Opens the wanted adapter, or the best there is: discrete before integrated before virtual before CPU
    /// (`WGPU_POWER_PREF=low` turns the first two round), Vulkan, Metal and DX12 before GL.
    ///
    /// The device gets the adapter's own limits, and subgroups, f16, words of 64 bits, timestamps and pipeline caches
    /// where they are offered.
    ///
    /// # Errors
    /// [`DeviceError`] lists what there is where the wanted adapter is absent.
    pub async fn new(options: &DeviceOptions) -> Result<Self, DeviceError> {
        let mut adapters = adapters(options).await;
        let found: Vec<String> = adapters.iter().map(describe).collect();
        let wanted = options.adapter_name.clone().or_else(|| std::env::var("WGPU_ADAPTER_NAME").ok());
        if let Some(wanted) = &wanted {
            let lower = wanted.to_lowercase();
            adapters.retain(|adapter| adapter.get_info().name.to_lowercase().contains(&lower));
        }
        let low_power = std::env::var("WGPU_POWER_PREF").is_ok_and(|p| p.eq_ignore_ascii_case("low"));
        adapters.sort_by_key(|adapter| rank(&adapter.get_info(), low_power));
        match (adapters.into_iter().next(), wanted) {
            (Some(adapter), _) => Self::open(&adapter).await,
            (None, Some(wanted)) if !found.is_empty() => Err(DeviceError::NotFound { wanted, found }),
            (None, _) => Err(DeviceError::NoAdapter),
        }
    }

    /// [`Gpu::new`], waiting.
    ///
    /// # Errors
    /// As [`Gpu::new`].
    #[cfg(not(target_family = "wasm"))]
    pub fn new_blocking(options: &DeviceOptions) -> Result<Self, DeviceError> {
        pollster::block_on(Self::new(options))
    }

    /// Opens every adapter that can compute, best first.
    pub async fn all(options: &DeviceOptions) -> Vec<Self> {
        let mut adapters = adapters(options).await;
        adapters.sort_by_key(|adapter| rank(&adapter.get_info(), false));
        let mut gpus = Vec::new();
        for adapter in adapters {
            match Self::open(&adapter).await {
                Ok(gpu) => gpus.push(gpu),
                Err(error) => log::warn!("{error}"),
            }
        }
        gpus
    }

    /// Opens an adapter of the caller's.
    ///
    /// # Errors
    /// [`DeviceError`] where the adapter cannot compute or refuses.
    pub async fn open(adapter: &wgpu::Adapter) -> Result<Self, DeviceError> {
        let info = adapter.get_info();
        if !adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS) {
            return Err(DeviceError::NoCompute { adapter: describe(adapter) });
        }
        let wanted = wgpu::Features::SUBGROUP
            | wgpu::Features::SHADER_F16
            | wgpu::Features::SHADER_INT64
            | wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::PIPELINE_CACHE;
        let mut limits = adapter.limits();
        // DX12 sets a heap of this many descriptors aside at once; the kernels bind a handful.
        limits.max_non_sampler_bindings = limits.max_non_sampler_bindings.min(10_000);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("wgpu_cross_entropy"),
            required_features: adapter.features() & wanted,
            required_limits: limits,
            memory_hints: wgpu::MemoryHints::Performance,
            ..Default::default()
        };
        match adapter.request_device(&descriptor).await {
            Ok((device, queue)) => Ok(Self { info, device, queue }),
            Err(error) => {
                Err(DeviceError::Refused { adapter: describe(adapter), message: error.to_string() })
            }
        }
    }

    /// Name, back end and driver in one line.
    pub fn describe(&self) -> String {
        describe_info(&self.info)
    }
}

async fn adapters(options: &DeviceOptions) -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    if let Some(backends) = options.backends {
        descriptor.backends = backends;
    }
    let backends = descriptor.backends;
    wgpu::Instance::new(descriptor).enumerate_adapters(backends).await
}

fn describe(adapter: &wgpu::Adapter) -> String {
    describe_info(&adapter.get_info())
}

fn describe_info(info: &wgpu::AdapterInfo) -> String {
    let driver = [info.driver.as_str(), info.driver_info.as_str()].join(" ");
    match driver.trim() {
        "" => format!("{} ({})", info.name, info.backend),
        driver => format!("{} ({}, {driver})", info.name, info.backend),
    }
}

/// Lower is better.
fn rank(info: &wgpu::AdapterInfo, low_power: bool) -> (u8, u8) {
    use wgpu::{Backend, DeviceType};
    let kind = match info.device_type {
        DeviceType::DiscreteGpu => u8::from(low_power),
        DeviceType::IntegratedGpu => u8::from(!low_power),
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    };
    let backend = match info.backend {
        Backend::Vulkan | Backend::Metal | Backend::Dx12 | Backend::BrowserWebGpu => 0,
        Backend::Gl => 1,
        Backend::Noop => 2,
    };
    (kind, backend)
}

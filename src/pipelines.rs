//! What pipelines are made from, and those that plans share.

use crate::error::PlanError;
use crate::wgsl::Stage;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Compiled pipelines of one device, shared by the plans whose configs were given them: each text is compiled once, and
/// a plan that needs no new one is made without a compiler.
///
/// A clone is the same collection. It keeps its pipelines until the last clone is dropped.
///
/// ```no_run
/// # use wgpu_cross_entropy::{Config, CrossEntropy, Gpu, Options, Pipelines, Shape, Spec};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let gpu = Gpu::new_blocking(&Default::default())?;
/// let pipelines = Pipelines::new(&gpu.device);
/// for rows in [4096, 1000] {
///     let config = Config::new(&gpu.device, &Spec::default(), Shape::new(rows, 100), &Options::default())?;
///     let plan = CrossEntropy::with_config(&gpu.device, config.with_pipelines(&pipelines))?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// With a [`wgpu::PipelineCache`] ([`Pipelines::with_cache`]) what the driver compiled outlives the process as well:
/// see `examples/warm_start.rs`.
///
/// Plans of another device are refused with [`PlanError::OtherDevice`]; but devices of two [`wgpu::Instance`]s cannot
/// always be told apart, so keep a collection for each.
#[derive(Clone)]
pub struct Pipelines(Arc<Shared>);

struct Shared {
    device: wgpu::Device,
    cache: Option<wgpu::PipelineCache>,
    /// Each behind a lock of its own: who wants what another thread compiles waits for it, and for nothing else.
    made: Mutex<BTreeMap<Key, Arc<Mutex<Option<Made>>>>>,
}

/// All that a pipeline depends on but the device; bindings follow from the text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub stage: Stage,
    pub text: String,
    /// Names and bits.
    pub constants: Vec<(&'static str, u64)>,
    /// Whether wgpu adds its run-time checks.
    pub checked: bool,
}

/// A pipeline and its layout.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

impl Pipelines {
    /// None yet.
    pub fn new(device: &wgpu::Device) -> Self {
        Self::of(device, None)
    }

    /// The same with a cache of wgpu's, made for this device ([`wgpu::Device::create_pipeline_cache`]; Vulkan only, with
    /// [`wgpu::Features::PIPELINE_CACHE`]): drivers look there before they compile.
    pub fn with_cache(device: &wgpu::Device, cache: wgpu::PipelineCache) -> Self {
        Self::of(device, Some(cache))
    }

    fn of(device: &wgpu::Device, cache: Option<wgpu::PipelineCache>) -> Self {
        Self(Arc::new(Shared { device: device.clone(), cache, made: Mutex::default() }))
    }

    /// wgpu's cache, whose [`get_data`](wgpu::PipelineCache::get_data) is what to save.
    pub fn cache(&self) -> Option<&wgpu::PipelineCache> {
        self.0.cache.as_ref()
    }

    /// How many pipelines there are.
    pub fn len(&self) -> usize {
        let made: Vec<_> = self.made().values().cloned().collect();
        made.iter().filter(|made| locked(made).is_some()).count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets them all. Plans keep theirs.
    pub fn clear(&self) {
        self.made().clear();
    }

    fn made(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<Mutex<Option<Made>>>>> {
        locked(&self.0.made)
    }

    /// The pipeline of a key, made if it is not there. What fails is not remembered.
    fn get_or_make(
        &self,
        device: &wgpu::Device,
        key: Key,
        make: impl FnOnce(&Key) -> Result<Made, PlanError>,
    ) -> Result<Made, PlanError> {
        // wgpu numbers the devices of each instance for themselves.
        if self.0.device != *device || self.0.device.adapter_info() != device.adapter_info() {
            return Err(PlanError::OtherDevice { what: "the config's pipelines" });
        }
        let slot = Arc::clone(self.made().entry(key.clone()).or_default());
        let mut slot = locked(&slot);
        if let Some(made) = &*slot {
            return Ok(made.clone());
        }
        let made = make(&key)?;
        *slot = Some(made.clone());
        Ok(made)
    }
}

impl std::fmt::Debug for Pipelines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipelines").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl PartialEq for Pipelines {
    /// Whether they are one collection.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A thread that panicked while it compiled has left nothing half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a config's pipelines come from: texts of the caller's in place of some of the crate's, and pipelines that are
/// shared.
#[derive(Clone, Default, PartialEq, Debug)]
pub(crate) struct Shaders {
    edit: Option<Edited>,
    pipelines: Option<Pipelines>,
}

#[derive(Clone)]
struct Edited(Arc<Edit>);

type Edit = dyn Fn(Stage, &str) -> Option<String> + Send + Sync;

impl Shaders {
    pub fn edited(self, edit: impl Fn(Stage, &str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { edit: Some(Edited(Arc::new(edit))), ..self }
    }

    pub fn sharing(self, pipelines: &Pipelines) -> Self {
        Self { pipelines: Some(pipelines.clone()), ..self }
    }

    /// The caller's text for a stage, if there is one.
    pub fn text(&self, stage: Stage, text: &str) -> Option<String> {
        self.edit.as_ref().and_then(|edit| (edit.0)(stage, text))
    }

    /// wgpu's cache.
    pub fn cache(&self) -> Option<&wgpu::PipelineCache> {
        self.pipelines.as_ref().and_then(Pipelines::cache)
    }

    /// The pipeline of a key: a shared one, or a new one.
    pub fn pipeline(
        &self,
        device: &wgpu::Device,
        key: Key,
        make: impl FnOnce(&Key) -> Result<Made, PlanError>,
    ) -> Result<Made, PlanError> {
        match &self.pipelines {
            Some(pipelines) => pipelines.get_or_make(device, key, make),
            None => make(&key),
        }
    }
}

impl std::fmt::Debug for Edited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the caller's")
    }
}

impl PartialEq for Edited {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

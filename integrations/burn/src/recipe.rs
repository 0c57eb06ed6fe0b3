//! Our texts through burn's own runtime: its buffers, its queue, its pipelines, and no read-back.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::Client;
use cubecl::features::Plane;
use cubecl::ir::metadata::Info;
use cubecl::ir::settings::Dim3;
use cubecl::ir::{ElemType, UIntKind};
use cubecl::prelude::KernelMetadata;
use cubecl::prelude::{
    AddressType, CubeCount, ExecutionMode, KernelDefinition, KernelId, KernelSettings, Scope,
};
use cubecl::server::{Handle, KernelArguments};
use cubecl::{CubeKernel, PrecompiledSource};
use wgpu_cross_entropy::kernels::TableLayout;
use wgpu_cross_entropy::wgsl::Embedding;
use wgpu_cross_entropy::{
    Capabilities, Config, CountsOver, FlowDispatch, Params, Reduction, Slot, Targets, Visits, flow,
};

use crate::request::Request;

/// Texts and dispatches of a request on a device.
#[derive(Debug)]
pub(crate) struct Recipe {
    request: Request,
    config: Config,
    forward: Steps,
    backward: Steps,
    /// What is kept from batch to batch into a history, and out of it.
    history: Option<[Text; 2]>,
    /// Two labels and a share, into three words a row.
    two_hot: Option<Text>,
    grad_scale: Text,
    table: Vec<u8>,
}

/// Dispatches in order, and what is uploaded for all of them at once.
#[derive(Debug)]
struct Steps {
    dispatches: Vec<(FlowDispatch, Text)>,
    /// The parameters of each, `stride` bytes apart.
    params: Vec<u8>,
    /// A binding starts at a multiple of it.
    stride: usize,
}

impl Steps {
    fn new(dispatches: Vec<(FlowDispatch, Text)>, caps: Capabilities) -> Self {
        let stride = size_of::<Params>().next_multiple_of(caps.offset_alignment.max(4) as usize);
        let mut params = vec![0; stride * dispatches.len()];
        for ((dispatch, _), at) in dispatches.iter().zip(params.chunks_exact_mut(stride)) {
            at[..size_of::<Params>()].copy_from_slice(bytemuck::bytes_of(&dispatch.params));
        }
        Self { dispatches, params, stride }
    }
}

/// Recipes are kept: composing texts takes longer than dispatching them. The last ones used are at the end.
static RECIPES: Mutex<Vec<(Capabilities, Arc<Recipe>)>> = Mutex::new(Vec::new());
/// A training loop has a few: its batch, the last one of an epoch, validation.
const RECIPES_KEPT: usize = 32;

impl Recipe {
    /// `None` where the client runs no WGSL, or a limit of its device is passed.
    pub fn of(client: &Client, request: &Request) -> Option<Arc<Self>> {
        // No rows are nothing to dispatch.
        if client.name() != "wgpu<wgsl>" || request.shape.rows == 0 {
            return None;
        }
        let caps = capabilities(client);
        let mut kept = RECIPES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = kept.iter().position(|(of, recipe)| *of == caps && recipe.request == *request) {
            let found = kept.remove(at);
            let recipe = found.1.clone();
            kept.push(found);
            return Some(recipe);
        }
        let recipe = Arc::new(Self::new(caps, request)?);
        if kept.len() == RECIPES_KEPT {
            kept.remove(0);
        }
        kept.push((caps, recipe.clone()));
        Some(recipe)
    }

    fn new(caps: Capabilities, request: &Request) -> Option<Self> {
        let config = request.config(caps).ok()?;
        let mut forward: Vec<_> = flow(&config, Visits::Split, &Embedding::default())
            .ok()?
            .into_iter()
            .map(|dispatch| {
                let text = Text::new(&dispatch.source.text);
                (dispatch, text)
            })
            .collect();
        let fits =
            |(dispatch, _): &(FlowDispatch, Text)| dispatch.slots.len() as u32 <= caps.max_storage_buffers;
        if !forward.iter().all(fits) {
            return None;
        }
        let backward = forward.split_off(forward.len() - 1);
        let (over, classes) = (request.spec.live_counts.over, request.shape.classes);
        Some(Self {
            history: request.kept_len().map(|_| [true, false].map(|load| history_text(over, classes, load))),
            two_hot: (request.spec.targets == Targets::TwoHot).then(|| two_hot_text(request.shape.rows)),
            grad_scale: grad_scale_text(),
            table: TableLayout::new(&request.spec, &request.shape).initial(&request.spec),
            request: request.clone(),
            config,
            forward: Steps::new(forward, caps),
            backward: Steps::new(backward, caps),
        })
    }

    /// Counts, weights, denominator, losses; see [`CrossEntropyBackend`](crate::CrossEntropyBackend).
    pub fn forward(
        &self,
        logits: CubeTensor,
        labels: CubeTensor,
        probs: CubeTensor,
        sample_weights: CubeTensor,
        external: CubeTensor,
        counts: CubeTensor,
    ) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let (client, device) = (logits.client.clone(), logits.device.clone());
        let tensor = |handle: Handle, shape: Shape, dtype| {
            CubeTensor::new_contiguous(client.clone(), device.clone(), shape, handle, dtype)
        };
        let mut handles = self.inputs(logits, labels, probs);
        handles.insert(Slot::SampleWeights, into_contiguous(sample_weights).handle);
        handles.insert(Slot::ExternalDenominator, into_contiguous(external).handle);
        handles.insert(Slot::Table, client.create_from_slice(&self.table));
        let counts = into_contiguous(counts);
        let (counts_shape, mut counts) = (counts.meta.shape().clone(), counts.handle);
        if let Some([load, _]) = &self.history {
            let history = client.empty(Slot::History.size(&self.config) as usize);
            load.launch(&client, (1, 1), [&counts, &history]);
            handles.insert(Slot::History, history);
        }
        self.launch(&client, &self.forward, &mut handles);
        if let Some(([_, store], len)) = self.history.as_ref().zip(self.request.kept_len()) {
            // The caller's own stays as it is: a step may be repeated.
            counts = client.empty(len * 4);
            store.launch(&client, (1, 1), [&counts, &handles[&Slot::History]]);
        }
        let rows = self.request.shape.rows as usize;
        let table = handles[&Slot::Table].clone();
        let loss = match self.request.spec.reduction {
            Reduction::None => handles[&Slot::RowLosses].clone(),
            // The first word of the table.
            Reduction::Sum | Reduction::Mean(_) => table.clone().offset_end(self.table.len() as u64 - 4),
        };
        (
            tensor(loss, Shape::new([self.request.losses()]), DType::F32),
            tensor(table, Shape::new([self.table.len() / 4]), DType::I32),
            tensor(handles[&Slot::RowStats].clone(), Shape::new([rows, 8]), DType::F32),
            tensor(counts, counts_shape, DType::F32),
        )
    }

    /// Gradients; see [`CrossEntropyBackend`](crate::CrossEntropyBackend).
    pub fn backward(
        &self,
        logits: CubeTensor,
        labels: CubeTensor,
        probs: CubeTensor,
        table: CubeTensor,
        row_stats: CubeTensor,
        upstream: CubeTensor,
    ) -> CubeTensor {
        let (client, device) = (logits.client.clone(), logits.device.clone());
        let (shape, dtype) = (logits.meta.shape().clone(), logits.dtype);
        let upstream = into_contiguous(upstream).handle;
        let table = into_contiguous(table).handle;
        let mut handles = self.inputs(logits, labels, probs);
        if self.config.options().grad_out {
            handles.insert(Slot::GradOut, upstream);
        } else {
            self.grad_scale.launch(&client, (1, 1), [&upstream, &table]);
        }
        handles.insert(Slot::Table, table);
        handles.insert(Slot::RowStats, into_contiguous(row_stats).handle);
        self.launch(&client, &self.backward, &mut handles);
        CubeTensor::new_contiguous(client, device, shape, handles[&Slot::LogitGrads].clone(), dtype)
    }

    fn inputs(&self, logits: CubeTensor, labels: CubeTensor, probs: CubeTensor) -> BTreeMap<Slot, Handle> {
        let client = logits.client.clone();
        let targets = match (self.request.spec.targets, &self.two_hot) {
            (Targets::TwoHot, Some(pack)) => {
                let (labels, share) = (into_contiguous(labels).handle, into_contiguous(probs).handle);
                let rows = self.request.shape.rows;
                let packed = client.empty(rows as usize * 12);
                pack.launch(&client, (rows.div_ceil(64).min(PACKING_GROUPS), 1), [&labels, &share, &packed]);
                packed
            }
            (Targets::Soft, _) => into_contiguous(probs).handle,
            _ => into_contiguous(labels).handle,
        };
        BTreeMap::from([(Slot::Logits, into_contiguous(logits).handle), (Slot::Targets, targets)])
    }

    /// Queues dispatches in order; makes the buffers that are not there yet.
    fn launch(&self, client: &Client, steps: &Steps, handles: &mut BTreeMap<Slot, Handle>) {
        let params = client.create_from_slice(&steps.params);
        let (stride, len) = (steps.stride as u64, steps.params.len() as u64);
        for ((dispatch, text), at) in steps.dispatches.iter().zip((0..).step_by(steps.stride)) {
            let mut bound = Vec::new();
            for slot in &dispatch.slots {
                bound.push(match slot {
                    Slot::Params => params.clone().offset_start(at).offset_end(len - at - stride),
                    slot => handles
                        .entry(*slot)
                        .or_insert_with(|| client.empty(slot.size(&self.config) as usize))
                        .clone(),
                });
            }
            text.launch(client, dispatch.grid, bound.iter());
        }
    }
}

/// What a device can do, as burn's runtime tells it.
fn capabilities(client: &Client) -> Capabilities {
    let properties = client.properties();
    let hardware = &properties.hardware;
    // A software rasterizer is no card.
    let cpu = properties.identity.physical.is_none();
    // cubecl enables all that an adapter has, and then uses no subgroups on CPUs. One that has them has one size of them;
    // wgpu says 4 to 128 of one that has none.
    let on_cpu = cpu && hardware.plane_size_min > 1 && hardware.plane_size_min == hardware.plane_size_max;
    let subgroups = on_cpu || properties.features.plane.contains(Plane::Ops);
    let size = |size: u32| if subgroups { size.max(1) } else { 1 };
    Capabilities {
        subgroups,
        subgroup_min_size: size(hardware.plane_size_min),
        subgroup_max_size: size(hardware.plane_size_max),
        cpu,
        cores: Capabilities::cores_here(),
        // What cubecl enables of wgpu's features it does not tell.
        int64: false,
        max_workgroup_size: hardware.max_units_per_cube.min(hardware.max_cube_dim.0),
        max_workgroup_memory: hardware.max_shared_memory_size as u32,
        max_binding_size: properties.memory.max_page_size,
        offset_alignment: properties.memory.alignment as u32,
        max_storage_buffers: hardware.max_bindings,
        max_groups: hardware.max_cube_count.0,
        max_buffer_size: properties.memory.max_page_size,
    }
}

/// A text, as burn's runtime takes it. Its pipelines are cached by the id alone, which therefore is the text.
#[derive(Clone, Debug)]
struct Text {
    text: Arc<str>,
    hash: u64,
}

impl Text {
    fn new(text: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self { text: text.into(), hash: hasher.finish() }
    }

    fn launch<'a>(&self, client: &Client, (x, y): (u32, u32), bound: impl IntoIterator<Item = &'a Handle>) {
        let buffers = bound.into_iter().map(|handle| handle.clone().binding()).collect();
        let arguments = KernelArguments::new().with_buffers(buffers);
        client.launch(Box::new(self.clone()), CubeCount::Static(x, y, 1), arguments);
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && (Arc::ptr_eq(&self.text, &other.text) || self.text == other.text)
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl KernelMetadata for Text {
    fn name(&self) -> &'static str {
        "wgpu_cross_entropy"
    }

    fn id(&self) -> KernelId {
        // Unchecked: the kernels check what they index with, and their loops end.
        KernelId::new::<Self>().mode(ExecutionMode::Unchecked).info(self.clone())
    }

    fn address_type(&self) -> ElemType {
        ElemType::UInt(UIntKind::U32)
    }
}

impl CubeKernel for Text {
    /// Nothing is compiled from it: the text stands in.
    fn define(&self) -> KernelDefinition {
        let settings = KernelSettings::new(Dim3::new_single(), ExecutionMode::Unchecked, AddressType::U32);
        KernelDefinition { body: Scope::root(settings.clone()), settings, info: Info::default() }
    }

    fn source(&self) -> Option<PrecompiledSource> {
        Some(PrecompiledSource {
            source: self.text.to_string(),
            entrypoint_name: "main".to_owned(),
            lang: "wgsl",
        })
    }
}

/// Workgroups that pack labels, at most; each takes several rows then.
const PACKING_GROUPS: u32 = 4096;

/// `[2 rows]` labels, the first ones first, and `[rows]` shares, as the kernels take them.
fn two_hot_text(rows: u32) -> Text {
    Text::new(&format!(
        "@group(0) @binding(0) var<storage, read_write> labels: array<u32>;
@group(0) @binding(1) var<storage, read_write> share: array<u32>;
@group(0) @binding(2) var<storage, read_write> packed: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {{
    for (var row = id.x; row < {rows}u; row += 64u * groups.x) {{
        packed[3u * row] = labels[row];
        packed[3u * row + 1u] = labels[{rows}u + row];
        packed[3u * row + 2u] = share[row];
    }}
}}
"
    ))
}

/// What is kept into a history, or out of it: the words of `wgpu_cross_entropy::CountHistory`. Moving counts as bits; of
/// sums the halves of each word, as numbers that `f32` holds exactly.
fn history_text(over: CountsOver, classes: u32, load: bool) -> Text {
    let sums = over == CountsOver::Cumulative;
    let words = if sums { 4 * classes } else { classes };
    let class = match (sums, load) {
        (true, true) => {
            "history[16u + i] = u32(bitcast<f32>(kept[2u * i])) | (u32(bitcast<f32>(kept[2u * i + 1u])) << 16u);"
        }
        (true, false) => {
            "kept[2u * i] = bitcast<u32>(f32(history[16u + i] & 0xffffu)); \
             kept[2u * i + 1u] = bitcast<u32>(f32(history[16u + i] >> 16u));"
        }
        (false, true) => "history[16u + i] = kept[i];",
        (false, false) => "kept[i] = history[16u + i];",
    };
    let header = if load { "history[8u] = 0u; history[9u] = 0u;" } else { "" };
    let weight = match (sums, load) {
        (true, true) => "history[10u] = 0u;".to_owned(),
        (true, false) => String::new(),
        (false, true) => format!("history[10u] = kept[{classes}u];"),
        (false, false) => format!("kept[{classes}u] = history[10u];"),
    };
    Text::new(&format!(
        "@group(0) @binding(0) var<storage, read_write> kept: array<u32>;
@group(0) @binding(1) var<storage, read_write> history: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) index: u32) {{
    for (var i = index; i < {words}u; i += 64u) {{ {class} }}
    if (index == 0u) {{ {header} {weight} }}
}}
"
    ))
}

/// The gradient that arrives at the loss, to its place in the table.
fn grad_scale_text() -> Text {
    let word = TableLayout::GRAD_SCALE / 4;
    Text::new(&format!(
        "@group(0) @binding(0) var<storage, read_write> upstream: array<u32>;
@group(0) @binding(1) var<storage, read_write> table: array<u32>;

@compute @workgroup_size(1)
fn main() {{ table[{word}u] = upstream[0]; }}
"
    ))
}

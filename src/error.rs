//! Errors, by operation. Each message names the thing, what was expected and what came.

/// A [`Shape`](crate::Shape) that describes no layout.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// No classes, or more than the crate's limit.
    #[error("classes is {got}; it must be from 1 to {}", crate::shape::MAX_CLASSES)]
    Classes {
        /// What came.
        got: u32,
    },
    /// A field that must be at least 1.
    #[error("{name} is 0; it must be at least 1")]
    Zero {
        /// The field.
        name: &'static str,
    },
    /// Rows that would overlap.
    #[error("row_stride is {got}; {need} elements are needed (classes times inner)")]
    RowStride {
        /// What came.
        got: u32,
        /// The least possible.
        need: u64,
    },
    /// Rows that are no whole number of samples.
    #[error("rows is {rows}; with steps {steps} it must be a multiple of {steps}")]
    Steps {
        /// Rows of the shape.
        rows: u32,
        /// Steps of the shape.
        steps: u32,
    },
    /// Rows that are no whole number of class-first blocks.
    #[error("rows is {rows}; with inner {inner} it must be a multiple of {inner}")]
    Inner {
        /// Rows of the shape.
        rows: u32,
        /// Inner positions of the shape.
        inner: u32,
    },
}

/// A [`Spec`](crate::Spec) that cannot be computed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A list of the wrong length.
    #[error("{name} holds {got} values; {need} are needed")]
    Length {
        /// The list.
        name: &'static str,
        /// Its length.
        got: u64,
        /// The right length.
        need: u64,
    },
    /// A weight that is negative or not finite.
    #[error("{name}[{index}] is {got}; it must be finite and at least 0")]
    Weight {
        /// The list.
        name: &'static str,
        /// Where in it.
        index: usize,
        /// The value.
        got: f32,
    },
    /// A number out of its range.
    #[error("{name} is {got}; it must be {expected}")]
    Range {
        /// The field.
        name: &'static str,
        /// Its value.
        got: f32,
        /// What it must be.
        expected: &'static str,
    },
    /// Two choices that do not go together.
    #[error("{first} does not go with {second}: {why}")]
    Combination {
        /// One choice.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// The reason.
        why: &'static str,
    },
    /// A cost matrix for another number of classes.
    #[error("cost_matrix is for {got} classes; the shape has {classes}")]
    CostMatrixClasses {
        /// Classes of the matrix.
        got: u32,
        /// Classes of the shape.
        classes: u32,
    },
}

/// Host slices that do not fit the spec and the shape.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The shape itself.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The spec itself.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A slice of the wrong length.
    #[error("{name} holds {got} elements; {need} are needed")]
    Length {
        /// The slice.
        name: &'static str,
        /// Its length.
        got: u64,
        /// The right length.
        need: u64,
    },
    /// A label that its format cannot hold.
    #[error("labels[{index}] is {got}; it must be {expected}")]
    Label {
        /// Where.
        index: usize,
        /// What came.
        got: i32,
        /// What the format holds.
        expected: &'static str,
    },
    /// A slice that the spec asks for and the inputs lack.
    #[error("{name} is missing; the spec asks for it")]
    Missing {
        /// The slice.
        name: &'static str,
    },
    /// A slice that the inputs have and the spec does not ask for.
    #[error("{name} is given; the spec does not ask for it")]
    Unexpected {
        /// The slice.
        name: &'static str,
    },
}

/// A kernel or a plan that cannot be made for this device.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The shape.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The spec.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A strategy that cannot serve the layout, or the like.
    #[error("{option} is {got}; {expected}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        got: String,
        /// What would do.
        expected: String,
    },
    /// A limit of the device.
    #[error("{what} is {got}; the device allows {limit}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// How large.
        got: u64,
        /// The device's limit.
        limit: u64,
    },
    /// A device without compute shaders.
    #[error("the device has no compute shaders: it allows {what} 0")]
    NoCompute {
        /// The limit that is 0.
        what: &'static str,
    },
    /// Something that was made with another device.
    #[error("{what} belong to another device than the plan's")]
    OtherDevice {
        /// What.
        what: &'static str,
    },
    /// The device is lost: the driver gave it up, or somebody destroyed it.
    #[error("the device is lost")]
    DeviceLost,
    /// A shader or pipeline that the driver refused.
    #[error("{kernel} did not compile: {message}")]
    Compile {
        /// The shader file.
        kernel: &'static str,
        /// What the driver or wgpu said.
        message: String,
    },
    /// A buffer that the device could not make.
    #[error("{name} of {size} bytes could not be allocated: {message}")]
    Allocate {
        /// The buffer.
        name: &'static str,
        /// Its size in bytes.
        size: u64,
        /// What wgpu said.
        message: String,
    },
}

/// Buffers that do not fit a kernel or a plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Too few bytes.
    #[error("{name} holds {got} bytes; {what} need {need}")]
    TooSmall {
        /// The buffer.
        name: &'static str,
        /// Bytes from the offset on.
        got: u64,
        /// Bytes needed.
        need: u64,
        /// For how many of what.
        what: String,
    },
    /// A range that passes the buffer's end.
    #[error("{name} ends at byte {end}; its buffer has {size}")]
    BeyondBuffer {
        /// The buffer.
        name: &'static str,
        /// Where the range ends.
        end: u64,
        /// Size of the buffer.
        size: u64,
    },
    /// An offset that is no whole number of elements.
    #[error("{name} starts at byte {offset}; the offset must be a multiple of {align}")]
    Offset {
        /// The buffer.
        name: &'static str,
        /// What came.
        offset: u64,
        /// What it must be a multiple of.
        align: u64,
    },
    /// A usage flag that the buffer lacks.
    #[error("{name} lacks usage {missing}; it has {got}")]
    Usage {
        /// The buffer.
        name: &'static str,
        /// The flag.
        missing: &'static str,
        /// The flags it has.
        got: String,
    },
    /// A buffer that is needed and absent.
    #[error("{name} is missing; {why}")]
    Missing {
        /// The buffer.
        name: &'static str,
        /// What asks for it.
        why: &'static str,
    },
    /// A buffer that is given and would not be used.
    #[error("{name} is given; {why}")]
    Unexpected {
        /// The buffer.
        name: &'static str,
        /// Why it is not used.
        why: &'static str,
    },
    /// Two bindings on one buffer, of which one is written: a dispatch may not have both.
    #[error("{first} and {second} are in one buffer; where one of them is written they need a buffer each")]
    SameBuffer {
        /// One binding.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// One piece of data that fits no binding of the device.
    #[error("{name} needs a binding of {need} bytes; the device allows {limit}")]
    BindingSize {
        /// The buffer.
        name: &'static str,
        /// Bytes needed.
        need: u64,
        /// The device's limit.
        limit: u64,
    },
    /// The device is lost: the driver gave it up, or somebody destroyed it.
    #[error("the device is lost")]
    DeviceLost,
    /// A buffer or bind group that the device could not make.
    #[error("the device refused a buffer or bind group: {message}")]
    Device {
        /// What wgpu said.
        message: String,
    },
}

/// A history of counts that cannot be loaded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// Too few bytes, or too many.
    #[error("the history holds {got} bytes; {need} are needed")]
    Length {
        /// What came.
        got: u64,
        /// What its header says; the header, where that is not whole.
        need: u64,
    },
    /// Bytes of something else.
    #[error("this is no history: it starts with {got:?}")]
    NoHistory {
        /// The first four.
        got: [u8; 4],
    },
    /// A layout that this crate does not know.
    #[error("the history has version {got}; this crate reads {expected}")]
    Version {
        /// What came.
        got: u32,
        /// What is known.
        expected: u32,
    },
    /// A field of the header with an impossible value.
    #[error("{name} of the history is {got}; it must be {expected}")]
    Field {
        /// The field.
        name: &'static str,
        /// What came.
        got: u32,
        /// What it must be.
        expected: &'static str,
    },
    /// A number that cannot be.
    #[error("{name} of the history is {got}; it must be {expected}")]
    Number {
        /// Which.
        name: &'static str,
        /// What came.
        got: f32,
        /// What it must be.
        expected: &'static str,
    },
    /// A history of another plan's kind.
    #[error("{name} of the history is {got}; the plan's is {expected}")]
    Mismatch {
        /// The field.
        name: &'static str,
        /// What came.
        got: f64,
        /// The plan's.
        expected: f64,
    },
    /// A plan that keeps no history.
    #[error("the plan keeps no history: its counts go over the batch alone")]
    NotKept,
}

/// No device to be had.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// No adapter at all.
    #[error(
        "no GPU adapter was found; on Debian and Ubuntu the package mesa-vulkan-drivers brings a software one"
    )]
    NoAdapter,
    /// Not the one that was asked for.
    #[error("no adapter is named like {wanted:?}; there is {}", found.join("; "))]
    NotFound {
        /// The name asked for.
        wanted: String,
        /// The adapters there are.
        found: Vec<String>,
    },
    /// An adapter that only draws.
    #[error("{adapter} has no compute shaders")]
    NoCompute {
        /// The adapter.
        adapter: String,
    },
    /// An adapter that gave no device.
    #[error("{adapter} gave no device: {message}")]
    Refused {
        /// The adapter.
        adapter: String,
        /// What it said.
        message: String,
    },
}

/// Telemetry that cannot be had or understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The plan keeps none.
    #[error("the plan keeps no telemetry; Options::class_stats or Options::confusion asks for it")]
    Off,
    /// Too few bytes, or too many.
    #[error("telemetry holds {got} bytes; {classes} classes take {need}")]
    Length {
        /// How many came.
        got: u64,
        /// How many are expected.
        need: u64,
        /// For so many classes.
        classes: u32,
    },
    /// Two that are of different numbers of classes.
    #[error("the other telemetry is of {got} classes; this one is of {here}")]
    Classes {
        /// Classes of the one that was to be added.
        got: usize,
        /// Classes of the one that it was to be added to.
        here: usize,
    },
    /// Two of which one has confusion counts.
    #[error("only one of the two telemetries has confusion counts")]
    Confusion,
}

/// A row, or an element of a sigmoid loss, that cannot be trained on: from the checked calls.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// A label that is neither a class nor the ignore index.
    #[error("the label of row {row} is {label}, which is no class of {classes}; {rows} such row(s)")]
    OutOfRange {
        /// The first such row.
        row: u32,
        /// Its label; of two labels the first that is out of range.
        label: i32,
        /// Classes of the shape.
        classes: u32,
        /// How many such rows there are.
        rows: u32,
    },
    /// Logits with NaN or `+inf` or nothing but `-inf`, or targets that are not finite.
    #[error("{name} {first} is not finite; {count} such {name}(s)")]
    NonFinite {
        /// `row`, or `element` of a sigmoid loss.
        name: &'static str,
        /// The first.
        first: u32,
        /// How many there are.
        count: u32,
    },
    /// A weight, an upstream gradient or a denominator that is not finite.
    #[error("{name}[{index}] is {got}; it must be finite")]
    Weight {
        /// The slice.
        name: &'static str,
        /// Where in it.
        index: usize,
        /// What came.
        got: f32,
    },
}

/// A call with host slices that failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The slices.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The buffers.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Something that the device could not make or run.
    #[error("the device refused the step: {message}")]
    Device {
        /// What wgpu said.
        message: String,
    },
    /// The device is lost: the driver gave it up, or somebody destroyed it. A new plan needs a new device.
    #[error("the device is lost; {name} went with it")]
    DeviceLost {
        /// The buffer that was to be read, or the step.
        name: &'static str,
    },
    /// A row that cannot be trained on, from the checked calls.
    #[error(transparent)]
    Row(#[from] RowError),
    /// The telemetry.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The device did not answer in time.
    #[error("the device did not finish within {seconds} s")]
    Timeout {
        /// How long it was given.
        seconds: f64,
    },
    /// The results could not be read.
    #[error("reading {name} failed: {message}")]
    Read {
        /// The buffer.
        name: &'static str,
        /// What wgpu said.
        message: String,
    },
}

/// A strategy that could not be chosen by timing: see [`Autotune`](crate::Autotune).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AutotuneError {
    /// A file that cannot be read.
    #[error("{} cannot be read: {message}", path.display())]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// What the system says.
        message: String,
    },
    /// A line of a file that is none of its format.
    #[error(
        "line {number} of {} is {got:?}; a key, a tab, and a strategy with three numbers are expected",
        path.display()
    )]
    Line {
        /// The file.
        path: std::path::PathBuf,
        /// From 1.
        number: usize,
        /// The line.
        got: String,
    },
    /// A file that cannot be written.
    #[error("{} cannot be written: {message}", path.display())]
    Write {
        /// The file.
        path: std::path::PathBuf,
        /// What the system says.
        message: String,
    },
    /// A plan that cannot be made, or a device that fails.
    #[error(transparent)]
    Host(#[from] HostError),
}

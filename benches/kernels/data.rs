//! The shapes that are timed and the data of a batch: for the benches here and for the page in the browser.

use wgpu_cross_entropy::{ClassWeights, Inputs, Options, Shape};

/// A shape that is timed, and the reason.
pub struct Case {
    pub shape: Shape,
    pub why: &'static str,
}

/// The shapes.
pub const CASES: &[Case] = &[
    case(
        Shape::new(1_000_000, 2),
        "the fewest classes: 8 bytes of logits a row, so that all else a row costs shows",
    ),
    case(Shape::new(1_000_000, 10), "the classic ten; no multiple of four, so GPUs load single words"),
    case(Shape::new(1_000_000, 19), "odd: rows start anywhere within 16 bytes"),
    case(Shape::new(65_536, 100), "more classes than one invocation should walk over"),
    case(Shape::new(32_768, 256), "a multiple of every workgroup size"),
    case(Shape::new(8_192, 1_000), "ImageNet: the tail is no multiple of a workgroup"),
    case(Shape::new(8_192, 32_000), "Llama 2: a row no longer fits registers"),
    case(Shape::new(4_096, 50_257), "GPT-2: an odd vocabulary, where 16-byte loads do not fit"),
    case(Shape::new(8_192, 128_256), "Llama 3: gigabytes of logits, and tiles where bindings are small"),
    case(
        Shape::class_first(8, 19, 512 * 512),
        "segmentation, class-first: Cityscapes' 19 classes of 512 x 512",
    ),
    case(Shape::new(64, 262_144), "Gemma's vocabulary: a workgroup a row is too few for a large GPU"),
    case(Shape::new(16, 262_144), "few rows: not enough workgroups for a large GPU"),
    case(Shape::new(1, 262_144), "a single row: all parallelism has to come from its classes"),
];

const fn case(shape: Shape, why: &'static str) -> Case {
    Case { shape, why }
}

/// Logits and labels repeat after about so many logits: a host need not make a gigabyte of numbers.
const PERIOD_LOGITS: u64 = 1 << 22;

/// The batch of a shape, repeatable: logits and labels repeat after a period of whole rows (or outer blocks).
pub struct Data {
    /// The shape.
    pub shape: Shape,
    /// `[rows]`. Skewed: class 0 has the most rows, as in the batches that this crate is for.
    pub labels: Vec<i32>,
    /// What the kernels that read logits are planned with.
    pub options: Options,
    /// Rows of a period.
    period: u32,
}

impl Data {
    pub fn new(shape: Shape) -> Self {
        let unit = u64::from(shape.row_stride);
        let units = (PERIOD_LOGITS / unit).clamp(1, u64::from(shape.rows / shape.inner).max(1));
        let period = units as u32 * shape.inner;
        let mut random = Random(u64::from(shape.classes) << 32 | u64::from(shape.rows));
        let mut labels: Vec<i32> =
            (0..period).map(|_| (random.unit().powi(2) * f64::from(shape.classes)) as i32).collect();
        labels = labels.iter().copied().cycle().take(shape.rows as usize).collect();
        Self { shape, labels, options: Options::default(), period }
    }

    /// Planned otherwise.
    pub fn with(self, options: Options) -> Self {
        Self { options, ..self }
    }

    /// Whole rows of logits, before they repeat. Between -8 and 8, most of them small, so that a few classes share a
    /// row's probability and no error hides in numbers near zero; every second row is sure of its label.
    pub fn logits_of_period(&self) -> Vec<f32> {
        let shape = Shape { rows: self.period, ..self.shape };
        let mut random = Random(u64::from(shape.classes) << 32 | u64::from(shape.rows) | 1 << 63);
        let mut logits: Vec<f32> =
            (0..shape.logits_len()).map(|_| (8.0 * (2.0 * random.unit() - 1.0).powi(3)) as f32).collect();
        for row in (0..shape.rows).step_by(2) {
            logits[shape.index(row, self.labels[row as usize] as u32) as usize] += 6.0;
        }
        logits
    }

    /// All logits, for a batch that is small enough to be checked.
    pub fn logits(&self) -> Vec<f32> {
        let len = self.shape.logits_len() as usize;
        self.logits_of_period().into_iter().cycle().take(len).collect()
    }

    /// Logits, labels and no more, for the oracle.
    pub fn inputs<'a>(&'a self, logits: &'a [f32]) -> Inputs<'a> {
        Inputs { logits, labels: &self.labels, ..Inputs::default() }
    }

    /// Class weights for the host to give: whole numbers from 1 to 4.
    pub fn class_weights(&self) -> ClassWeights {
        ClassWeights::Given((0..self.shape.classes).map(|class| (1 + class % 4) as f32).collect())
    }
}

/// SplitMix64: enough for logits, the same on every machine.
struct Random(u64);

impl Random {
    /// From 0 to 1, 1 excluded.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The shape with at most so many logits, cut in rows only: rows, or outer blocks and then the rows side by side. Rows are
/// a multiple of eight where there are as many, as batches have them, and no fewer where classes are no multiple of eight.
pub fn at_most(shape: Shape, logits: u64) -> Shape {
    let classes = u64::from(shape.classes);
    if shape.inner == 1 {
        let most = (logits / classes).max(1) as u32;
        // Kernels that load eight logits take batches of whole words: fewer than eight rows would be another variant.
        let most = match most {
            0..8 if shape.classes.is_multiple_of(8) => most,
            _ => (most / 8 * 8).max(8),
        };
        return Shape { rows: shape.rows.min(most), ..shape };
    }
    let inner = u64::from(shape.inner);
    let outer = u64::from(shape.rows / shape.inner).min((logits / (classes * inner)).max(1));
    // A multiple of 64, as pictures have it.
    let inner = inner.min((logits / classes / 64 * 64).max(64));
    Shape::class_first(outer as u32, shape.classes, inner as u32)
}

/// The cases with the shapes that stand for them somewhere, but for those that have become the same as an earlier one.
pub fn distinct(shape_here: impl Fn(&'static Case) -> Shape) -> Vec<(&'static Case, Shape)> {
    let mut distinct: Vec<(&'static Case, Shape)> = Vec::new();
    for case in CASES {
        let shape = shape_here(case);
        if !distinct.iter().any(|(_, other)| *other == shape) {
            distinct.push((case, shape));
        }
    }
    distinct
}

/// `rows x classes`, `outer x classes x inner`.
pub fn name_of(shape: &Shape) -> String {
    match shape.inner {
        1 => format!("{}x{}", shape.rows, shape.classes),
        inner => format!("{}x{}x{inner}", shape.rows / inner, shape.classes),
    }
}

/// Bytes of something with so many bytes a logit and a row, and of class weights as far as rows can ask for them.
pub fn traffic(shape: &Shape, a_logit: u64, a_row: u64) -> u64 {
    let (rows, classes) = (u64::from(shape.rows), u64::from(shape.classes));
    rows * classes * a_logit + rows * a_row + rows.min(classes) * 4
}

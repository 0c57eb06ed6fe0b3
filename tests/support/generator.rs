//! The fuzzer's generator: any spec, shape and options that may go together, and batches of hostile numbers for them.
//!
//! A plan compiles for long and runs for milliseconds, so a case is a plan and several batches. What is drawn are the
//! plan's fields and each batch's seed and kind: enough to make the case again.

#![allow(dead_code, reason = "each binary that includes this file uses a part of it")]

use crate::binary_steps;
use crate::support::{Batch, cost_matrix, given_weights};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wgpu_cross_entropy::wgsl::Strategy as RowStrategy;
use wgpu_cross_entropy::{
    BinaryClip, BinaryDenominator, BinaryOptions, BinaryReduction, BinaryScores, BinarySpec, ClassWeights,
    ClassesOver, Clip, ClipOrder, CountsOver, Denominator, Dtype, LabelFormat, LiveCounts, LiveWeights,
    LogitBias, Options, PosWeight, Reduction, SampleWeights, Scores, Shape, Spec, Targets, WeightScheme,
    WeightScope,
};

/// A plan, and batches for it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is computed.
    pub spec: Spec,
    /// Of which shape.
    pub shape: Shape,
    /// How.
    pub options: Options,
    /// On what.
    pub fillings: Vec<Filling>,
}

/// The same for a sigmoid loss.
#[derive(Clone, Debug)]
pub struct BinaryCase {
    /// What is computed.
    pub spec: BinarySpec,
    /// Of which shape.
    pub shape: Shape,
    /// How.
    pub options: BinaryOptions,
    /// On what.
    pub fillings: Vec<Filling>,
}

/// What a batch's slices hold, and where they start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Filling {
    /// Of the numbers.
    pub seed: u64,
    /// Of the scores.
    pub scores: Numbers,
    /// Of labels, soft targets and weights.
    pub hostile: bool,
    /// Words before each slice in its buffer.
    pub at: usize,
}

/// What scores are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// What models give, with masked classes: `Batch::random`.
    Usual,
    /// Any bit pattern.
    Bits,
    /// Any sign and mantissa, exponents that a softmax can tell apart.
    Near,
    /// The ends of every range, infinities and NaN.
    Ends,
    /// Few different values: ties.
    Ties,
}

const ENDS: [u32; 26] = [
    0,
    0x8000_0000,
    1,
    0x8000_0001,
    0x007f_ffff,
    0x0080_0000,
    0x3380_0000,
    0x3f7f_ffff,
    0x3f80_0000,
    0x3f80_0001,
    0xbf80_0000,
    0x42b1_7218,
    0xc2b1_7218,
    0x42cf_f1b5,
    0xc2d0_0000,
    0x477f_e000,
    0x4b80_0000,
    0x7eff_0000,
    0xfeff_0000,
    0x7eff_0001,
    0x7f7f_ffff,
    0xff7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0xff80_0001,
];

impl Numbers {
    fn draw(self, rng: &mut StdRng) -> f32 {
        match self {
            Self::Usual => (rng.random::<f32>() - 0.5) * 16.0,
            Self::Bits => f32::from_bits(rng.random()),
            Self::Near => {
                let bits: u32 = rng.random();
                let exponent = rng.random_range(127 - 24..127 + 7u32);
                f32::from_bits(bits & 0x807f_ffff | exponent << 23)
            }
            Self::Ends => f32::from_bits(ENDS[rng.random_range(0..ENDS.len())]),
            Self::Ties => [0.0, -0.0, 1.0, -1.0, 2.5, f32::NEG_INFINITY][rng.random_range(0..6)],
        }
    }
}

/// A probability, its ends, and what is none.
fn probability(rng: &mut StdRng) -> f32 {
    match rng.random_range(0..12) {
        0 => 0.0,
        1 => 1.0,
        2 => 1e-7,
        3 => 1.0 - 1e-7,
        4 => rng.random::<f32>() * 1e-6,
        _ => rng.random(),
    }
}

impl Case {
    /// A batch, made of its filling alone.
    pub fn batch(&self, filling: &Filling) -> Batch {
        let (spec, shape) = (&self.spec, self.shape);
        let mut batch = Batch::random(filling.seed, spec, shape);
        let mut rng = StdRng::seed_from_u64(!filling.seed);
        let cells = |row: u32| (0..shape.classes).map(move |class| shape.index(row, class) as usize);
        // Half of the rows: good ones among the others must stay exact.
        for row in (0..shape.rows).filter(|row| filling.scores != Numbers::Usual && row % 2 == 0) {
            for at in cells(row) {
                batch.logits[at] = match (spec.scores, filling.scores) {
                    (Scores::Logits | Scores::SoftmaxProbs(_), numbers) => numbers.draw(&mut rng),
                    // Log-probabilities are at most 0, but for infinities and NaN.
                    (Scores::LogProbs, numbers) => -numbers.draw(&mut rng).abs().min(80.0),
                    (Scores::Probs(_), Numbers::Ends) if rng.random_range(0..16) == 0 => f32::NAN,
                    (Scores::Probs(_), _) => probability(&mut rng),
                };
            }
        }
        let plain = Spec { reduction: spec.reduction, ignore_index: spec.ignore_index, ..Spec::default() };
        let limit = match () {
            // What is scaled is rounded: differences below an ulp of it are lost, where the oracle still has them.
            () if spec.logit_scale != 1.0 || spec.logit_bias != LogitBias::None => 4096.0,
            () if *spec == plain => f32::MAX,
            () => 1e16,
        };
        clamp(&mut batch.logits, self.options.dtype, limit);
        for label in &mut batch.labels {
            if filling.hostile && rng.random_range(0..8) == 0 {
                let ends = [-1, i32::MIN, i32::MAX, shape.classes as i32, -100, 255, 65_535];
                *label = match rng.random_range(0..8) {
                    7 => rng.random(),
                    end => ends[end],
                };
            }
            let most = match self.options.labels {
                LabelFormat::I32 => continue,
                LabelFormat::U16 => 65_535,
                LabelFormat::U8 => 255,
            };
            *label = (*label).clamp(0, most);
        }
        if filling.hostile {
            for share in batch.mix.iter_mut().flatten() {
                *share = probability(&mut rng);
            }
            for row in 0..shape.rows {
                if let Some(probs) = batch.target_probs.as_mut().filter(|_| row % 3 == 0) {
                    for at in cells(row) {
                        probs[at] = match rng.random_range(0..40) {
                            0 => f32::NAN,
                            1 => f32::INFINITY,
                            _ => probability(&mut rng),
                        };
                    }
                }
            }
            let zero = |values: &mut Option<Vec<f32>>, rng: &mut StdRng| {
                for value in values.iter_mut().flatten() {
                    *value = match rng.random_range(0..8) {
                        0 => 0.0,
                        1 => -0.0,
                        2 => 1e-3,
                        3 => 1e3,
                        _ => *value,
                    };
                }
            };
            zero(&mut batch.sample_weights, &mut rng);
            zero(&mut batch.grad_out, &mut rng);
        }
        batch
    }
}

impl BinaryCase {
    /// A batch, made of its filling alone.
    pub fn batch(&self, filling: &Filling) -> binary_steps::Batch {
        let (spec, shape) = (&self.spec, self.shape);
        let mut batch = binary_steps::Batch::random(filling.seed, spec, shape);
        let mut rng = StdRng::seed_from_u64(!filling.seed);
        for row in 0..shape.rows {
            for column in 0..shape.classes {
                let at = shape.index(row, column) as usize;
                if filling.scores != Numbers::Usual && rng.random() {
                    batch.logits[at] = match spec.scores {
                        BinaryScores::Probs(_) => probability(&mut rng),
                        _ => filling.scores.draw(&mut rng),
                    };
                }
                if filling.hostile && rng.random_range(0..8) == 0 {
                    batch.targets[at] = match rng.random_range(0..12) {
                        0 => f32::NAN,
                        1 => f32::INFINITY,
                        // Others than from 0 to 1 are not meant.
                        2 => spec.ignore_value.unwrap_or(0.0),
                        _ => probability(&mut rng),
                    };
                }
            }
        }
        let plain = BinarySpec { reduction: spec.reduction, ..BinarySpec::default() };
        let limit = if *spec == plain { f32::MAX } else { 1e16 };
        clamp(&mut batch.logits, self.options.dtype, limit);
        batch
    }
}

/// What a failing case is made smaller by.
pub trait Smaller: Clone + std::fmt::Debug {
    /// The case with one thing less, each. The first two have fewer batches.
    fn smaller(&self) -> Vec<Self>;
}

/// Half of the batches, and the other half; none where one is left, for such a case does not fail.
fn halves(fillings: &[Filling]) -> [Vec<Filling>; 2] {
    match fillings.len() {
        0 | 1 => [Vec::new(), Vec::new()],
        n => [fillings[n / 2..].to_vec(), fillings[..n / 2].to_vec()],
    }
}

impl Smaller for Case {
    fn smaller(&self) -> Vec<Self> {
        let plain = Spec::default();
        let classes = self.shape.classes;
        let spec = |change: &dyn Fn(&mut Spec)| {
            let mut case = self.clone();
            change(&mut case.spec);
            case
        };
        let option = |change: &dyn Fn(&mut Options)| {
            let mut case = self.clone();
            change(&mut case.options);
            case
        };
        let filling = |change: &dyn Fn(&mut Filling)| {
            let mut case = self.clone();
            case.fillings.iter_mut().for_each(change);
            case
        };
        let shape = |shape: Shape| Self { shape, ..self.clone() };
        let mut smaller: Vec<Self> =
            halves(&self.fillings).map(|fillings| Self { fillings, ..self.clone() }).into();
        smaller.extend([
            spec(&|spec| spec.scores = plain.scores),
            spec(&|spec| (spec.targets, spec.ignore_index) = (plain.targets, Some(-100))),
            spec(&|spec| spec.ignore_index = None),
            spec(&|spec| spec.label_smoothing = 0.0),
            spec(&|spec| spec.focal_gamma = 0.0),
            spec(&|spec| spec.z_loss = 0.0),
            spec(&|spec| spec.logit_scale = 1.0),
            spec(&|spec| spec.logit_bias = LogitBias::None),
            spec(&|spec| (spec.cost_matrix, spec.cost_lambda) = (None, 0.0)),
            spec(&|spec| spec.cost_lambda = 0.0),
            spec(&|spec| spec.live_counts = LiveCounts::default()),
            spec(&|spec| spec.class_weights = ClassWeights::None),
            spec(&|spec| spec.weight_scope = WeightScope::PerTerm),
            spec(&|spec| {
                spec.live_counts.sample_weighted = false;
                spec.sample_weights = SampleWeights::None;
            }),
            spec(&|spec| spec.reduction = Reduction::Sum),
            option(&|options| options.in_place = false),
            option(&|options| options.grad_out = false),
            option(&|options| options.predictions = false),
            option(&|options| options.confusion = false),
            option(&|options| (options.confusion, options.class_stats) = (false, false)),
            option(&|options| options.dtype = Dtype::F32),
            option(&|options| options.labels = LabelFormat::I32),
            option(&|options| options.workgroup_size = None),
            option(&|options| options.subgroups = None),
            option(&|options| options.vectorize = None),
            option(&|options| options.int64 = None),
            option(&|options| options.max_binding_size = None),
            option(&|options| options.strategy = None),
            filling(&|filling| filling.at = 0),
            filling(&|filling| filling.hostile = false),
            shape(Shape::new(self.shape.rows, classes)),
            shape(Shape { rows: self.shape.inner * self.shape.steps, ..self.shape }),
        ]);
        smaller
    }
}

impl Smaller for BinaryCase {
    fn smaller(&self) -> Vec<Self> {
        let spec = |change: &dyn Fn(&mut BinarySpec)| {
            let mut case = self.clone();
            change(&mut case.spec);
            case
        };
        let option = |change: &dyn Fn(&mut BinaryOptions)| {
            let mut case = self.clone();
            change(&mut case.options);
            case
        };
        let mut smaller: Vec<Self> =
            halves(&self.fillings).map(|fillings| Self { fillings, ..self.clone() }).into();
        smaller.extend([
            spec(&|spec| spec.scores = BinaryScores::Logits),
            spec(&|spec| spec.pos_weight = PosWeight::None),
            spec(&|spec| spec.counts_over = CountsOver::Batch),
            spec(&|spec| spec.focal_gamma = 0.0),
            spec(&|spec| spec.focal_alpha = None),
            spec(&|spec| spec.label_smoothing = 0.0),
            spec(&|spec| spec.ignore_value = None),
            spec(&|spec| spec.element_weights = false),
            spec(&|spec| spec.sample_weights = false),
            spec(&|spec| spec.threshold = 0.5),
            spec(&|spec| spec.reduction = BinaryReduction::Sum),
            option(&|options| options.in_place = false),
            option(&|options| options.grad_out = false),
            option(&|options| options.element_losses = false),
            option(&|options| options.dtype = Dtype::F32),
            option(&|options| options.workgroup_size = None),
            Self { shape: Shape::new(self.shape.rows, self.shape.classes), ..self.clone() },
            Self { shape: Shape { rows: self.shape.inner, steps: 1, ..self.shape }, ..self.clone() },
        ]);
        smaller
    }
}

/// Keeps products within `f32`, and gradients within 16 bits: beyond, a device may saturate or overflow where the oracle
/// does not.
fn clamp(scores: &mut [f32], dtype: Dtype, limit: f32) {
    let limit = if dtype == Dtype::F32 { limit } else { limit.min(6e4) };
    for x in scores.iter_mut().filter(|x| x.is_finite()) {
        // A device may flush subnormals: which of two is larger, and so a prediction, is its own to say.
        *x = if x.is_subnormal() { 0.0 } else { x.clamp(-limit, limit) };
    }
}

/// Where slices start: at an aligned word, at words that only some loads can take, behind a whole alignment.
fn fillings(most: usize) -> impl Strategy<Value = Vec<Filling>> {
    use Numbers::*;
    let scores = select(vec![Usual, Usual, Bits, Near, Near, Ends, Ties]);
    let at = select(vec![0usize, 0, 1, 2, 3, 4, 5, 64, 67, 100]);
    let filling = (any::<u64>(), scores, any::<bool>(), at).prop_map(|(seed, scores, hostile, at)| Filling {
        seed,
        scores,
        hostile,
        at,
    });
    vec(filling, 1..=most)
}

/// Class-last, padded or not, read as time steps or not; class-first.
fn shapes() -> impl Strategy<Value = Shape> {
    let classes = prop_oneof![
        4 => 1u32..40,
        2 => select(vec![64u32, 65, 100, 127, 128, 130]),
        1 => select(vec![256u32, 257, 512, 1000, 1024, 1025, 2052]),
    ];
    let class_last = (classes, 0u32..40, 1u32..4, prop_oneof![Just(0u32), 1u32..9]).prop_map(
        |(classes, samples, steps, padding)| {
            let samples = samples.min(2 + 6000 / classes);
            Shape::temporal(samples, steps, classes).with_row_stride(classes + padding)
        },
    );
    let class_first = (1u32..4, 1u32..24, 1u32..40, prop_oneof![Just(0u32), 1u32..9]).prop_map(
        |(outer, classes, inner, padding)| {
            Shape::class_first(outer, classes, inner).with_row_stride(classes * inner + padding)
        },
    );
    prop_oneof![3 => class_last, 1 => class_first]
}

fn scores() -> impl Strategy<Value = Scores> {
    let clip = (select(vec![1e-7, 1e-3, 0.1]), any::<bool>()).prop_map(|(eps, early)| {
        let order = if early { ClipOrder::BeforeNormalizing } else { ClipOrder::AfterNormalizing };
        Clip { eps, order }
    });
    prop_oneof![
        6 => Just(Scores::Logits),
        1 => Just(Scores::LogProbs),
        1 => clip.clone().prop_map(Scores::Probs),
        1 => clip.prop_map(Scores::SoftmaxProbs),
    ]
}

fn class_weights(classes: u32) -> impl Strategy<Value = ClassWeights> {
    use WeightScheme::*;
    let scheme = select(vec![
        Balanced,
        Inverse,
        InversePower(0.5),
        InverseFrequency(0.5),
        EffectiveNumber(0.999),
        MedianFrequency,
        LogFrequency(1.02),
    ]);
    let live = (scheme, select(vec![0.0, 1.0]), any::<bool>(), any::<bool>()).prop_map(
        |(scheme, smoothing, all, clamped)| {
            let over = if all { ClassesOver::All } else { ClassesOver::Present };
            let (min, max) = if clamped { (0.2, 3.0) } else { (0.0, f32::INFINITY) };
            ClassWeights::Live(LiveWeights { scheme, smoothing, min, max, over, absent_weight: 0.25 })
        },
    );
    prop_oneof![2 => Just(ClassWeights::None), 2 => Just(given_weights(classes)), 2 => live]
}

fn reductions() -> impl Strategy<Value = Reduction> {
    use Denominator::*;
    let means = [WeightSum, ValidRows, SampleWeightSum, NonZeroWeights, Rows, External].map(Reduction::Mean);
    select([means.as_slice(), &[Reduction::None, Reduction::Sum]].concat())
}

fn counts_over() -> impl Strategy<Value = CountsOver> {
    select(vec![
        CountsOver::Batch,
        CountsOver::Batch,
        CountsOver::Ema { momentum: 0.9 },
        CountsOver::Cumulative,
    ])
}

fn specs(classes: u32) -> impl Strategy<Value = Spec> {
    let broadcast = select(vec![
        SampleWeights::None,
        SampleWeights::PerRow,
        SampleWeights::PerSample,
        SampleWeights::PerStep,
    ]);
    let bias = prop_oneof![
        3 => Just(LogitBias::None),
        1 => Just(LogitBias::Given((0..classes).map(|class| (class % 7) as f32 - 3.0).collect())),
        1 => Just(LogitBias::LogPrior { tau: 1.0, smoothing: 0.5 }),
    ];
    let what = (
        scores(),
        select(vec![Targets::Labels, Targets::Labels, Targets::TwoHot, Targets::Soft]),
        option::of(select(vec![-100, -1, 0, 255, i32::MIN])),
        select(vec![WeightScope::PerTerm, WeightScope::PerRow]),
    );
    let numbers = (
        select(vec![0.0, 0.0, 0.1, 1.0]),
        select(vec![0.0, 0.0, 0.5, 2.0]),
        select(vec![0.0, 0.0, 0.001]),
        select(vec![1.0, 1.0, 0.5, 3.0]),
        select(vec![0.0, 0.0, 0.7]),
    );
    let factors = (class_weights(classes), broadcast, bias, any::<bool>(), any::<bool>());
    let batches = (any::<bool>(), counts_over());
    (what, numbers, factors, batches, reductions()).prop_map(
        move |(what, numbers, factors, (mass, over), reduction)| {
            let (scores, targets, ignore_index, weight_scope) = what;
            let (label_smoothing, focal_gamma, z_loss, logit_scale, cost_lambda) = numbers;
            let (class_weights, sample_weights, logit_bias, costs, cost_gather) = factors;
            let logits = scores == Scores::Logits;
            let adjusted = logits || matches!(scores, Scores::SoftmaxProbs(_));
            let costs = costs && classes <= 130;
            Spec {
                scores,
                targets,
                label_smoothing,
                ignore_index: ignore_index.filter(|_| targets != Targets::Soft),
                class_weights,
                live_counts: LiveCounts {
                    sample_weighted: mass && sample_weights != SampleWeights::None,
                    over,
                },
                weight_scope,
                sample_weights,
                cost_matrix: costs.then(|| cost_matrix(classes)),
                cost_gather,
                cost_lambda: if costs && logits { cost_lambda } else { 0.0 },
                focal_gamma,
                z_loss: if logits { z_loss } else { 0.0 },
                logit_scale: if adjusted { logit_scale } else { 1.0 },
                logit_bias: if adjusted { logit_bias } else { LogitBias::None },
                reduction,
            }
        },
    )
}

fn options() -> impl Strategy<Value = Options> {
    let formats = (
        select(vec![Dtype::F32, Dtype::F32, Dtype::F16, Dtype::Bf16]),
        select(vec![LabelFormat::I32, LabelFormat::I32, LabelFormat::U16, LabelFormat::U8]),
    );
    let variant = (
        option::of(select(RowStrategy::ALL.to_vec())),
        prop_oneof![3 => Just(None), 1 => select(vec![1u32, 2, 4, 8, 16, 64, 256]).prop_map(Some)],
        select(vec![None, None, Some(false)]),
        select(vec![(None, None), (None, None), (None, Some(false)), (Some(false), None)]),
        prop_oneof![4 => Just(None), 1 => (2_000u64..60_000).prop_map(Some)],
    );
    (any::<[bool; 5]>(), formats, variant).prop_map(|(flags, (dtype, labels), variant)| {
        let [in_place, grad_out, predictions, class_stats, confusion] = flags;
        let (strategy, workgroup_size, subgroups, (vectorize, int64), max_binding_size) = variant;
        Options {
            in_place,
            grad_out,
            dtype,
            labels,
            predictions,
            class_stats,
            confusion: confusion && class_stats,
            strategy,
            workgroup_size,
            subgroups,
            vectorize,
            int64,
            max_binding_size,
            ..Options::default()
        }
    })
}

/// What goes together, from what was drawn: 16 bits need an even stride, packed labels are labels, confusion counts are
/// many.
fn fitted(spec: &Spec, mut shape: Shape, mut options: Options) -> (Shape, Options) {
    if options.dtype != Dtype::F32 {
        match shape.inner {
            1 => shape.row_stride = shape.row_stride.next_multiple_of(2),
            _ => options.dtype = Dtype::F32,
        }
    }
    if spec.targets != Targets::Labels {
        options.labels = LabelFormat::I32;
    }
    options.confusion &= shape.classes <= 130;
    if shape.inner > 1 {
        options.strategy = None;
    }
    (shape, options)
}

/// Cases of the softmax losses, of so many batches at most.
pub fn cases(batches: usize) -> impl Strategy<Value = Case> {
    let spec = |shape: Shape| specs(shape.classes).prop_map(move |spec| (shape, spec));
    (shapes().prop_flat_map(spec), options(), fillings(batches)).prop_map(
        |((shape, spec), options, fillings)| {
            let (shape, options) = fitted(&spec, shape, options);
            Case { spec, shape, options, fillings }
        },
    )
}

/// Cases of the sigmoid losses, of so many batches at most.
pub fn binary_cases(batches: usize) -> impl Strategy<Value = BinaryCase> {
    let clip = (select(vec![1e-7, 1e-3, 0.2]), select(vec![0.0, 1e-7]))
        .prop_map(|(eps, log_eps)| BinaryClip { eps, log_eps });
    let scores = prop_oneof![
        4 => Just(BinaryScores::Logits),
        1 => clip.clone().prop_map(BinaryScores::Probs),
        1 => clip.prop_map(BinaryScores::SigmoidProbs),
    ];
    let factors = (0u32..5, any::<bool>());
    let numbers = (
        select(vec![0.0, 0.0, 0.5, 1.0, 2.0]),
        option::of(select(vec![0.0, 0.25, 1.0])),
        select(vec![0.0, 0.2, 1.0]),
        option::of(select(vec![-1.0, 0.0, f32::NAN])),
        select(vec![0.5, 0.1, 0.0, 1.0]),
    );
    let reduction = {
        use BinaryDenominator::*;
        let means = [Elements, ValidElements, WeightSum, SampleWeightSum, External, Columns];
        let rest = [BinaryReduction::None, BinaryReduction::Sum];
        select([means.map(BinaryReduction::Mean).as_slice(), &rest].concat())
    };
    let options = (
        any::<[bool; 3]>(),
        select(vec![Dtype::F32, Dtype::F32, Dtype::F16, Dtype::Bf16]),
        option::of(select(vec![1u32, 2, 8, 64, 256])),
    );
    let spec = (scores, factors, counts_over(), numbers, any::<[bool; 2]>(), reduction);
    (shapes(), spec, options, fillings(batches)).prop_map(|(mut shape, spec, options, fillings)| {
        let (scores, (kind, per_column), counts_over, numbers, [element_weights, sample_weights], reduction) =
            spec;
        let (focal_gamma, focal_alpha, label_smoothing, ignore_value, threshold) = numbers;
        let ([in_place, grad_out, element_losses], mut dtype, workgroup_size) = options;
        if dtype != Dtype::F32 {
            if shape.inner == 1 && shape.classes % 2 == 0 {
                shape.row_stride = shape.row_stride.next_multiple_of(2);
            } else if shape.row_stride != shape.classes * shape.inner {
                dtype = Dtype::F32;
            }
        }
        let pos_weight = match kind {
            0 => PosWeight::None,
            1 => PosWeight::Given(vec![3.5]),
            2 => PosWeight::Given((0..shape.classes).map(|column| (column % 4) as f32 / 2.0).collect()),
            3 => PosWeight::Live { per_column, min: 0.25, max: 50.0 },
            _ => PosWeight::Ratio { per_column },
        };
        let spec = BinarySpec {
            scores,
            pos_weight,
            counts_over,
            focal_gamma,
            focal_alpha,
            label_smoothing,
            ignore_value,
            element_weights,
            sample_weights,
            threshold,
            reduction,
        };
        let options = BinaryOptions {
            in_place,
            // Eight buffers hold any four of these.
            grad_out: grad_out && !(element_weights && sample_weights && element_losses && !in_place),
            element_losses,
            dtype,
            workgroup_size,
            max_binding_size: None,
            ..BinaryOptions::default()
        };
        BinaryCase { spec, shape, options, fillings }
    })
}

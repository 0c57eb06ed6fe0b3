//! Shaders are safe by themselves: they are compiled without run-time checks, and write nothing outside of their bindings.

use crate::generator::{BinaryCase, Case, Filling, Numbers, binary_cases, cases};
use crate::steps::run_step;
use crate::support::{Batch, Guarded, gpus, run};
use crate::{binary_steps, draw};
use wgpu_cross_entropy::kernels::{
    ClassCountsBuffers, ClassCountsKernel, ClassWeightsBuffers, ClassWeightsKernel, CostGatherBuffers,
    CostGatherKernel, CrossEntropyBackwardBuffers, CrossEntropyBackwardKernel, CrossEntropyBuffers,
    CrossEntropyForwardBuffers, CrossEntropyForwardKernel, CrossEntropyKernel, DenominatorBuffers,
    DenominatorKernel, LossTotalBuffers, LossTotalKernel, TableLayout,
};
use wgpu_cross_entropy::wgsl::Strategy;
use wgpu_cross_entropy::{
    BinaryCrossEntropy, BinaryOutput, Config, CountHistory, CountsOver, CrossEntropy, Dtype, Gpu, Options,
    Output, Shape, Spec, Targets, testing,
};

fn bits<'a>(slices: impl IntoIterator<Item = &'a [f32]>) -> Vec<u32> {
    slices.into_iter().flatten().map(|x| x.to_bits()).collect()
}

/// All that a step gives, as bits.
fn all_bits(output: &Output<f32>) -> Vec<u32> {
    let t = &output.totals;
    let optional = [&output.class_mass, &output.counted, &output.class_weights, &output.logit_bias];
    let mut all = bits(
        [&output.row_losses[..], &output.logit_grads, &[t.loss, t.loss_sum, t.denominator, t.weight_sum]]
            .into_iter()
            .chain(optional.into_iter().map(|values| values.as_deref().unwrap_or_default())),
    );
    all.extend([t.valid_rows, t.ignored_rows, t.out_of_range_rows, t.nonfinite_rows, t.correct_rows]);
    all.extend(output.predictions.iter().flatten().chain(output.class_counts.iter().flatten()));
    all
}

fn all_binary_bits(output: &BinaryOutput<f32>) -> Vec<u32> {
    let t = &output.totals;
    let optional = [&output.element_losses, &output.binary_counts, &output.factors];
    bits(
        [&output.logit_grads[..], &[t.loss, t.loss_sum, t.denominator, t.weight_sum]]
            .into_iter()
            .chain(optional.into_iter().map(|values| values.as_deref().unwrap_or_default())),
    )
}

/// Compiles and runs the same without checks and with all that naga has: bounds, loops, divisions.
fn both<T>(run: impl Fn() -> T) -> [T; 2] {
    let unchecked = run();
    testing::set_shader_checks(true);
    let checked = run();
    testing::set_shader_checks(false);
    [unchecked, checked]
}

/// A check that stepped in would change what is read or written.
#[test]
fn run_time_checks_change_no_bit() {
    for gpu in gpus() {
        let (mut plans, mut refused) = (0, 0);
        for mut case in draw(5, 12, cases(2)) {
            let strategies = if case.shape.inner == 1 { &Strategy::ALL[..] } else { &[] };
            let strategies = strategies.iter().copied().map(Some).chain([None]);
            // Each strategy in turn, and the table's own.
            case.options.strategy = strategies.cycle().nth(plans).flatten();
            let step = || -> Option<Vec<Vec<u32>>> {
                let plan = CrossEntropy::new(&gpu.device, &case.spec, case.shape, &case.options).ok()?;
                let run = |filling: &Filling| {
                    let got = run_step(gpu, &plan, &case.batch(filling), filling.at).ok()?;
                    Some(all_bits(&got))
                };
                case.fillings.iter().map(run).collect()
            };
            let [unchecked, checked] = both(step);
            assert!(unchecked == checked, "{}: {case:?}", gpu.describe());
            match unchecked {
                Some(_) => plans += 1,
                None => refused += 1,
            }
        }
        for case in draw(6, 4, binary_cases(2)) {
            let BinaryCase { spec, shape, options, fillings } = &case;
            let step = || -> Vec<Vec<u32>> {
                let plan = BinaryCrossEntropy::new(&gpu.device, spec, *shape, options).unwrap();
                let run = |filling: &Filling| {
                    let (got, _) = binary_steps::run_step(gpu, &plan, &case.batch(filling), filling.at);
                    all_binary_bits(&got)
                };
                fillings.iter().map(run).collect()
            };
            let [unchecked, checked] = both(step);
            assert!(unchecked == checked, "{}: {case:?}", gpu.describe());
            plans += 1;
        }
        println!("checks: {}: {plans} plans give the same bits, {refused} refused", gpu.describe());
        assert!(plans > refused, "{plans} plans, {refused} refused");
    }
}

/// The binding of a buffer that may be absent.
fn binding(guarded: &Option<Guarded>) -> Option<wgpu::BufferBinding<'_>> {
    guarded.as_ref().map(Guarded::binding)
}

/// Runs the flow kernel by kernel, every buffer between poisoned words, and finds those untouched. What is in the buffers
/// then.
pub fn guarded_flow(gpu: &Gpu, config: &Config, batch: &Batch, at: usize) -> Option<Vec<Vec<u32>>> {
    let (spec, shape, options, device) = (config.spec(), *config.shape(), *config.options(), &gpu.device);
    let (rows, classes) = (shape.rows as usize, shape.classes as usize);
    // Tables, histories, partial sums and telemetry start at the device's alignment, which divides 256 bytes.
    let aligned = 64;
    let floats = |values: &[f32]| Guarded::floats(gpu, at, values);
    let words = |size: u64| Guarded::new(gpu, aligned, &vec![0; size.div_ceil(4) as usize]);
    let layout = TableLayout::new(spec, &shape);
    let initial = bytemuck::pod_collect_to_vec::<u8, u32>(&layout.initial(spec));
    let table = Guarded::new(gpu, aligned, &initial);
    let stored: Vec<u32> = bytemuck::pod_collect_to_vec(&options.dtype.encode(&batch.logits));
    let logits = Guarded::new(gpu, at, &stored);
    let targets = batch.targets_as(gpu, at, options.labels);
    let sample_weights = batch.sample_weights.as_deref().map(floats);
    let grad_out = batch.grad_out.as_deref().map(floats);
    let external = batch.external.map(|value| floats(&[value]));
    let grads = (!options.in_place).then(|| Guarded::output(gpu, at, stored.len()));
    let records = options.keeps_records();
    let row_losses =
        Guarded::output(gpu, if records { aligned } else { at }, rows * config.row_size() as usize / 4);
    let telemetry = config.telemetry_layout().map(|layout| words(layout.size()));
    let of_denominator = words(DenominatorKernel::partials_size(spec.targets, shape.rows));
    let of_loss = words(LossTotalKernel::partials_size(shape.rows));
    let mut guards: Vec<Guarded> = Vec::new();

    if spec.needs_counts() {
        let counts = words(classes as u64 * 4);
        let mass = spec.counts_are_mass().then(|| words(ClassCountsKernel::mass_size(shape.classes)));
        let history = CountHistory::new(spec, shape.classes);
        let history = history
            .map(|own| Guarded::new(gpu, aligned, &bytemuck::pod_collect_to_vec::<u8, u32>(own.as_bytes())));
        let counted = (spec.live_counts.over != CountsOver::Batch).then(|| words(classes as u64 * 4));
        let weighted = spec.live_counts.sample_weighted;
        let count = ClassCountsKernel::new(device, config).unwrap().bind(
            device,
            &ClassCountsBuffers {
                targets: targets.binding(),
                sample_weights: binding(&sample_weights).filter(|_| weighted),
                mass: binding(&mass),
                class_counts: counts.binding(),
            },
        );
        let weigh = ClassWeightsKernel::new(device, config).unwrap().bind(
            device,
            &ClassWeightsBuffers {
                class_counts: counts.binding(),
                history: binding(&history),
                counted: binding(&counted),
                table: table.binding(),
            },
        );
        let (count, weigh) = (count.ok()?, weigh.ok()?);
        run(gpu, |pass| {
            count.encode(pass);
            weigh.encode(pass);
        });
        guards.extend([Some(counts), mass, history, counted].into_iter().flatten());
    }
    let denominator = DenominatorKernel::new(device, config).unwrap().bind(
        device,
        &DenominatorBuffers {
            targets: targets.binding(),
            sample_weights: binding(&sample_weights),
            external_denominator: binding(&external),
            partials: of_denominator.binding(),
            table: table.binding(),
        },
    );
    let forward_losses =
        Guarded::output(gpu, if records { aligned } else { at }, rows * config.row_size() as usize / 4);
    let stats = Guarded::output(gpu, aligned, rows * 8);
    let forward = CrossEntropyForwardKernel::new(device, config).unwrap().bind(
        device,
        &CrossEntropyForwardBuffers {
            logits: logits.binding(),
            targets: targets.binding(),
            sample_weights: binding(&sample_weights),
            row_losses: forward_losses.binding(),
            row_stats: stats.binding(),
            table: table.binding(),
        },
    );
    // Over logits of its own, where gradients go over logits.
    let own_logits = Guarded::new(gpu, at, &stored);
    let own_grads = (!options.in_place).then(|| Guarded::output(gpu, at, stored.len()));
    let backward = CrossEntropyBackwardKernel::new(device, config).unwrap().bind(
        device,
        &CrossEntropyBackwardBuffers {
            logits: own_logits.binding(),
            targets: targets.binding(),
            grad_out: binding(&grad_out),
            logit_grads: binding(&own_grads),
            row_stats: stats.binding(),
            table: table.binding(),
        },
    );
    let fused = CrossEntropyKernel::new(device, config).unwrap().bind(
        device,
        &CrossEntropyBuffers {
            logits: logits.binding(),
            targets: targets.binding(),
            sample_weights: binding(&sample_weights),
            grad_out: binding(&grad_out),
            logit_grads: binding(&grads),
            row_losses: row_losses.binding(),
            table: table.binding(),
        },
    );
    let total = LossTotalKernel::new(device, config).unwrap().bind(
        device,
        &LossTotalBuffers {
            row_losses: row_losses.binding(),
            partials: of_loss.binding(),
            table: table.binding(),
            telemetry: binding(&telemetry),
        },
    );
    for bound in [denominator, forward, backward, fused, total] {
        let bound = bound.ok()?;
        run(gpu, |pass| bound.encode(pass));
    }
    if spec.targets == Targets::Labels && options.dtype == Dtype::F32 {
        let gathered = Guarded::output(gpu, at.next_multiple_of(2), rows * 2);
        let again = Guarded::new(gpu, at, &stored);
        let gather = CostGatherKernel::new(device, config).unwrap().bind(
            device,
            &CostGatherBuffers {
                logits: again.binding(),
                labels: targets.binding(),
                gathered: gathered.binding(),
                table: table.binding(),
            },
        );
        let gather = gather.ok()?;
        run(gpu, |pass| gather.encode(pass));
        guards.extend([gathered, again]);
    }
    guards.extend([
        table,
        logits,
        targets,
        row_losses,
        of_denominator,
        of_loss,
        forward_losses,
        stats,
        own_logits,
    ]);
    guards.extend([sample_weights, grad_out, external, grads, telemetry, own_grads].into_iter().flatten());
    // Reading asserts that what lies around is as it was.
    Some(guards.iter().map(|guard| guard.read(gpu)).collect())
}

/// Poison around every buffer of every kernel is found untouched, in every layout and strategy.
#[test]
fn memory_around_every_buffer_is_untouched() {
    for gpu in gpus() {
        let (mut flows, mut refused) = (0, 0);
        let shapes = [
            Shape::new(37, 5),
            Shape::new(37, 12),
            Shape::new(21, 28),
            Shape::new(9, 130).with_row_stride(133),
            Shape::class_first(2, 7, 9).with_row_stride(65),
        ];
        for (number, mut case) in draw(9, 20, cases(1)).into_iter().enumerate() {
            // Every layout with every strategy that takes it, whatever else was drawn.
            let shape = shapes[number % shapes.len()];
            let strategy = Strategy::ALL[number / shapes.len() % Strategy::ALL.len()];
            if shape.inner > 1 || shape.row_stride % 2 == 1 {
                case.options.dtype = Dtype::F32;
            }
            case.options.strategy = (shape.inner == 1).then_some(strategy);
            case.options.workgroup_size = None;
            let spec = Spec { class_weights: case.spec.class_weights.clone(), ..case.spec.clone() };
            case = Case { spec: fit(spec, shape.classes), shape, ..case };
            for (at, scores) in [(0, Numbers::Usual), (64, Numbers::Bits), (67, Numbers::Ends)] {
                let filling = Filling { seed: number as u64, scores, hostile: true, at };
                let options = Options { grad_out: true, ..case.options };
                let config = Config::new(&gpu.device, &case.spec, case.shape, &options).ok();
                match config.and_then(|config| guarded_flow(gpu, &config, &case.batch(&filling), at)) {
                    Some(_) => flows += 1,
                    None => refused += 1,
                }
            }
        }
        println!("red zones: {}: {flows} flows, {refused} refused", gpu.describe());
        assert!(flows > 2 * refused, "{flows} flows, {refused} refused");
    }
}

/// A spec for another number of classes.
fn fit(spec: Spec, classes: u32) -> Spec {
    use wgpu_cross_entropy::{ClassWeights, LogitBias};
    Spec {
        class_weights: match spec.class_weights {
            ClassWeights::Given(_) => crate::support::given_weights(classes),
            other => other,
        },
        logit_bias: match spec.logit_bias {
            LogitBias::Given(_) => LogitBias::Given((0..classes).map(|class| class as f32 / 8.0).collect()),
            other => other,
        },
        cost_matrix: spec.cost_matrix.map(|_| crate::support::cost_matrix(classes)),
        ..spec
    }
}

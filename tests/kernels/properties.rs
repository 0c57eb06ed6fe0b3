//! What must hold for any batch on any device, of two of its own results.

use crate::support::{Batch, cost_matrix, given_weights, gpus};
use proptest::prelude::*;
use proptest::sample::select;
use wgpu_cross_entropy::tolerance::{Worst, tolerances};
use wgpu_cross_entropy::{
    ClassWeights, Config, CostMatrix, CrossEntropy, Gpu, Options, Output, Reduction, SampleWeights, Shape,
    Spec, Targets, WeightScope, cpu,
};

/// Any targets with any terms but the z-loss, over rows that come as they like; a sum, so that rows do not meet in a
/// denominator.
fn batches() -> impl Strategy<Value = Batch> {
    let targets = select(vec![Targets::Labels, Targets::TwoHot, Targets::Soft]);
    let terms = (
        select(vec![0.0, 0.1]),
        select(vec![0.0, 2.0]),
        any::<bool>(),
        select(vec![WeightScope::PerTerm, WeightScope::PerRow]),
    );
    let shape = (1u32..40, select(vec![1u32, 2, 3, 5, 8, 33, 64, 130]));
    (0u64..1 << 32, targets, terms, shape).prop_map(|(seed, targets, terms, (rows, classes))| {
        let (label_smoothing, focal_gamma, costs, weight_scope) = terms;
        let spec = Spec {
            targets,
            label_smoothing,
            focal_gamma,
            weight_scope,
            ignore_index: (targets != Targets::Soft).then_some(-100),
            class_weights: given_weights(classes),
            sample_weights: SampleWeights::PerRow,
            cost_matrix: costs.then(|| cost_matrix(classes)),
            cost_lambda: if costs && seed % 2 == 0 { 0.5 } else { 0.0 },
            reduction: Reduction::Sum,
            ..Spec::default()
        };
        let mut batch = Batch::random(seed, &spec, Shape::new(rows, classes));
        // Multiples of 2^-8 below 2^7: shifting them by a whole number rounds nothing.
        batch.logits.iter_mut().for_each(|x| *x = (*x * 256.0).round() / 256.0);
        batch
    })
}

fn compute(gpu: &Gpu, batch: &Batch) -> Output<f32> {
    let options = Options { grad_out: true, predictions: true, ..Options::default() };
    let plan = CrossEntropy::new(&gpu.device, &batch.spec, batch.shape, &options).unwrap();
    plan.compute_blocking(&gpu.device, &gpu.queue, &batch.inputs()).unwrap()
}

/// The rows in this order, which may leave some out.
fn rows(batch: &Batch, order: &[usize]) -> Batch {
    let n = batch.shape.classes as usize;
    fn take<T: Copy>(values: &[T], order: &[usize], n: usize) -> Vec<T> {
        order.iter().filter(|_| !values.is_empty()).flat_map(|row| values[row * n..][..n].to_vec()).collect()
    }
    let floats = |values: &Option<Vec<f32>>, n| values.as_ref().map(|values| take(values, order, n));
    Batch {
        shape: Shape::new(order.len() as u32, batch.shape.classes),
        logits: take(&batch.logits, order, n),
        labels: take(&batch.labels, order, 1),
        second_labels: batch.second_labels.as_ref().map(|labels| take(labels, order, 1)),
        mix: floats(&batch.mix, 1),
        target_probs: floats(&batch.target_probs, n),
        sample_weights: floats(&batch.sample_weights, 1),
        grad_out: floats(&batch.grad_out, 1),
        ..batch.clone()
    }
}

/// Two results for one batch, each of which may be as far from the truth as the tolerance allows.
fn close(gpu: &Gpu, batch: &Batch, a: &Output<f32>, b: &Output<f32>) -> Result<(), TestCaseError> {
    let options = Options { grad_out: true, ..Options::default() };
    let config = Config::new(&gpu.device, &batch.spec, batch.shape, &options).unwrap();
    let truth = cpu::compute(&batch.spec, &batch.shape, &batch.inputs()).unwrap();
    let allowed = tolerances(&config, &batch.inputs(), &truth);
    for (name, a, b, allowed) in [
        ("row_losses", &a.row_losses, &b.row_losses, &allowed.row_losses),
        ("logit_grads", &a.logit_grads, &b.logit_grads, &allowed.logit_grads),
    ] {
        let a: Vec<f64> = a.iter().copied().map(f64::from).collect();
        let twice: Vec<f64> = allowed.iter().map(|tolerance| 2.0 * tolerance).collect();
        let worst = Worst::of(name, b, &a, &twice);
        prop_assert!(worst.passed(), "{}: {worst}", gpu.describe());
    }
    Ok(())
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// No difference of two logits changes. Not to the bit: a driver may compute `(x - m) c` as `x c - m c`.
    #[test]
    fn a_constant_on_all_logits_changes_nothing(batch in batches(), shift in -64i8..=64) {
        let logits = batch.logits.iter().map(|x| x + f32::from(shift)).collect();
        let shifted = Batch { logits, ..batch.clone() };
        for gpu in gpus() {
            let (a, b) = (compute(gpu, &batch), compute(gpu, &shifted));
            close(gpu, &batch, &a, &b)?;
            prop_assert_eq!(a.predictions, b.predictions);
        }
    }

    /// A row's results are its own: in another order, and in two parts, they are the same bits.
    #[test]
    fn rows_do_not_see_each_other(batch in batches(), cut in 0.0f64..1.0) {
        let n = batch.shape.rows as usize;
        let cut = (n as f64 * cut) as usize;
        // The second part first, and each of the two from its end.
        let order: Vec<usize> = (cut..n).rev().chain((0..cut).rev()).collect();
        let classes = batch.shape.classes as usize;
        for gpu in gpus() {
            let whole = compute(gpu, &batch);
            let reordered = compute(gpu, &rows(&batch, &order));
            let parts = [compute(gpu, &rows(&batch, &order[..n - cut])), compute(gpu, &rows(&batch, &order[n - cut..]))];
            let [losses, grads] = [
                parts.iter().flat_map(|part| part.row_losses.clone()).collect::<Vec<f32>>(),
                parts.iter().flat_map(|part| part.logit_grads.clone()).collect(),
            ];
            prop_assert_eq!(bits(&losses), bits(&reordered.row_losses), "{}", gpu.describe());
            prop_assert_eq!(bits(&grads), bits(&reordered.logit_grads), "{}", gpu.describe());
            for (to, &from) in order.iter().enumerate() {
                prop_assert_eq!(reordered.row_losses[to].to_bits(), whole.row_losses[from].to_bits());
                prop_assert_eq!(
                    bits(&reordered.logit_grads[to * classes..][..classes]),
                    bits(&whole.logit_grads[from * classes..][..classes]),
                    "{}",
                    gpu.describe()
                );
            }
        }
    }

    /// Factors of 1 are no factors: a gather by ones, and class weights of ones. Not to the bit: they are another text,
    /// in which a driver may fuse other products with other sums.
    #[test]
    fn factors_of_one_are_none(batch in batches()) {
        let n = batch.shape.classes;
        let ones = CostMatrix::from_true_predicted(n, vec![1.0; (n * n) as usize]).unwrap();
        let with = |class_weights, cost_matrix| {
            let spec = Spec { class_weights, cost_matrix, cost_lambda: 0.0, ..batch.spec.clone() };
            Batch { spec, ..batch.clone() }
        };
        let none = with(ClassWeights::None, None);
        let given = with(ClassWeights::Given(vec![1.0; n as usize]), Some(ones));
        for gpu in gpus() {
            close(gpu, &none, &compute(gpu, &none), &compute(gpu, &given))?;
        }
    }
}

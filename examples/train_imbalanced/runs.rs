//! The runs that are compared: one network, one seed, ten losses.

use wgpu_cross_entropy::{
    ClassWeights, CostMatrix, CountsOver, Denominator, LiveCounts, LogitBias, Reduction, SampleWeights, Spec,
    WeightScheme, cpu, error::SpecError,
};

use crate::data::{Data, Source};

/// One run.
#[derive(Clone, Debug)]
pub struct Run {
    pub name: &'static str,
    pub spec: Spec,
}

impl Run {
    /// The weights of the training rows, if this run uses them.
    pub fn sample_weights<'a>(&self, data: &'a Data) -> Option<&'a [f32]> {
        (self.spec.sample_weights != SampleWeights::None).then_some(&data.sample_weights)
    }
}

/// The runs of a data set, in the order of the report.
pub fn all(data: &Data) -> Result<Vec<Run>, SpecError> {
    let unweighted = Run { name: "unweighted", spec: Spec::default() };
    Ok(match data.source {
        Source::Wine => vec![
            unweighted,
            fixed(data),
            balanced(),
            balanced_ema(),
            inverse(),
            effective(),
            log_prior(),
            focal(),
            cost(data)?,
            sample(),
        ],
        Source::ThreeTypes => {
            // Keras divides the weighted sum by the number of rows.
            let reduction = Reduction::Mean(Denominator::Rows);
            let mut sample = sample();
            sample.spec.reduction = reduction;
            vec![unweighted, sample]
        }
    })
}

/// The weights that most code uses: scikit-learn's `'balanced'` of the whole training set, computed once.
fn fixed(data: &Data) -> Run {
    let weights = cpu::class_weights(&Default::default(), &data.train.class_rows(data.classes()));
    let weights = weights.into_iter().map(|w| w as f32).collect();
    Run { name: "fixed", spec: Spec { class_weights: ClassWeights::Given(weights), ..Spec::default() } }
}

/// The same formula, over the classes of each batch as it comes.
fn balanced() -> Run {
    Run { name: "balanced", spec: Spec { class_weights: WeightScheme::Balanced.into(), ..Spec::default() } }
}

/// The same over a moving average of the batches' counts: a rare class that a batch lacks is not forgotten, and one that
/// it happens to have twice does not weigh half as much.
fn balanced_ema() -> Run {
    let live_counts = LiveCounts { over: CountsOver::Ema { momentum: 0.9 }, ..LiveCounts::default() };
    Run { name: "balanced_ema", spec: Spec { live_counts, ..balanced().spec } }
}

/// The effective number of rows (Cui et al., 2019): between no weights and `balanced`, the milder the smaller beta is.
fn effective() -> Run {
    let class_weights = WeightScheme::EffectiveNumber(0.9).into();
    Run { name: "effective", spec: Spec { class_weights, ..Spec::default() } }
}

/// No weights: the logits are trained on top of the logarithm of each class's share of all rows so far, and judged
/// without it (logit adjustment, balanced softmax).
fn log_prior() -> Run {
    let spec = Spec {
        logit_bias: LogitBias::LogPrior { tau: 1.0, smoothing: 1.0 },
        live_counts: LiveCounts { over: CountsOver::Cumulative, ..LiveCounts::default() },
        ..Spec::default()
    };
    Run { name: "log_prior", spec }
}

/// No weights: rows that are predicted well count for less (Lin et al., 2017).
fn focal() -> Run {
    Run { name: "focal", spec: Spec { focal_gamma: 2.0, ..Spec::default() } }
}

/// One over the count, summed: the loss is the sum over the classes of the mean loss of each.
///
/// A weighted mean would divide by the sum of the weights, which is the number of classes in the batch, and
/// that is the balanced run again. The sum lets a batch with all six classes pull harder than one with four.
fn inverse() -> Run {
    let spec =
        Spec { class_weights: WeightScheme::Inverse.into(), reduction: Reduction::Sum, ..Spec::default() };
    Run { name: "inverse", spec }
}

/// No class weights; a mistake costs more the further off its grade is.
///
/// The factor is a constant for the gradient: it makes rows that are far off pull harder towards their own
/// grade, but does not say that a near grade is better than a far one. Over twelve seeds it left the expected
/// cost where it was (1.44), for most mistakes are one grade off and stay so.
fn cost(data: &Data) -> Result<Run, SpecError> {
    Ok(Run {
        name: "cost",
        spec: Spec { cost_matrix: Some(cost_matrix(data.classes())?), ..Spec::default() },
    })
}

/// Weights that come with the rows: see [`Data::sample_weights`].
fn sample() -> Run {
    Run { name: "sample", spec: Spec { sample_weights: SampleWeights::PerRow, ..Spec::default() } }
}

/// `1 + |true - predicted|`: what the `cost` run trains with and every run is judged by. The diagonal is 1, for
/// a 0 there would take the gradient from every row that is predicted right.
pub fn cost_matrix(classes: usize) -> Result<CostMatrix, SpecError> {
    let cost = |t: usize, p: usize| 1.0 + t.abs_diff(p) as f32;
    let values = (0..classes).flat_map(|t| (0..classes).map(move |p| cost(t, p))).collect();
    CostMatrix::from_true_predicted(classes as u32, values)
}

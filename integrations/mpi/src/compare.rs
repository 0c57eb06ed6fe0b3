//! Whether runs of several numbers of ranks agree, and how far rank-local weights lead away.

use serde_json::json;

use crate::Failure;
use crate::train::Report;

/// How far losses of different numbers of ranks may be apart, relative. A step's loss and gradient are sums of 256 `f32`
/// terms in another order: 256 roundings of 2^-24, 1.5e-5. What a step starts with differs by that, and 60 steps of a
/// training that converges do not multiply it beyond ten times.
const BOUND: f64 = 1.5e-4;

pub fn run(arguments: &[String]) -> Result<(), Failure> {
    let load =
        |path: &String| -> Result<Report, Failure> { Ok(serde_json::from_slice(&std::fs::read(path)?)?) };
    let local_at =
        arguments.iter().position(|argument| argument == "--local").ok_or("--local FILE is missing")?;
    let reports = arguments[..local_at].iter().map(load).collect::<Result<Vec<_>, _>>()?;
    let local = load(arguments.get(local_at + 1).ok_or("--local FILE is missing")?)?;
    let one = reports.first().ok_or("no report")?;

    println!("{}", one.adapter);
    println!(
        "a step all-reduces {} bytes of counts, {} of denominators and {} of gradients a rank",
        one.bytes[0], one.bytes[1], one.bytes[2]
    );
    println!("{:>6}  {:>14}  {:>14}  {:>14}  {:>12}", "ranks", "first loss", "middle", "last", "apart");
    for report in reports.iter().chain([&local]) {
        let middle = report.losses.len() / 2;
        println!(
            "{:>6}  {:>14.9}  {:>14.9}  {:>14.9}  {:>12.3e}{}",
            report.ranks,
            report.losses[0],
            report.losses[middle],
            report.losses[report.losses.len() - 1],
            apart(one, report),
            if std::ptr::eq(report, &local) { "  weights of each rank's own counts" } else { "" },
        );
    }
    let difference = reports.iter().map(|report| apart(one, report)).fold(0.0, f64::max);
    let counts_equal = reports.iter().all(|report| report.class_counts == one.class_counts);
    let weights_equal = reports.iter().all(|report| report.class_weights == one.class_weights);
    let local_difference = apart(one, &local);
    let parameters = reports.iter().flat_map(|report| report.parameters.iter().zip(&one.parameters));
    let parameter_difference = parameters.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!(
        "{}",
        json!({
            "ranks": reports.iter().map(|report| report.ranks).collect::<Vec<_>>(),
            "steps": one.losses.len(),
            "max_loss_difference": difference,
            "max_parameter_difference": parameter_difference,
            "counts_equal": counts_equal,
            "weights_equal": weights_equal,
            "local_weights_loss_difference": local_difference,
        })
    );
    match counts_equal && weights_equal && difference <= BOUND && local_difference > 10.0 * BOUND {
        true => Ok(()),
        false => Err("the runs do not agree as they should".into()),
    }
}

/// The largest relative difference of two runs' losses.
fn apart(one: &Report, other: &Report) -> f64 {
    if one.losses.len() != other.losses.len() {
        return f64::INFINITY;
    }
    one.losses.iter().zip(&other.losses).map(|(a, b)| ((a - b) / a).abs()).fold(0.0, f64::max)
}

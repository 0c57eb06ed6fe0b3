//! The snippets of `docs/burn.md`, for a check of this package to compile: `tests/house.rs` of the crate compares the two.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    what_it_takes()?;
    training_step();
    Ok(())
}

#[rustfmt::skip] // As the page has it.
fn training_step() {
    use burn::module::Module;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
    use burn::tensor::{Device, Int, Tensor};
    use wgpu_cross_entropy_burn::{CrossEntropyLoss, CrossEntropyLossConfig};
    use wgpu_cross_entropy_burn::wgpu_cross_entropy::{Spec, WeightScheme};

    #[derive(Module, Debug)]
    struct Network {
        layer: Linear,
        loss: CrossEntropyLoss,
    }

    fn step(network: Network, optimizer: &mut ModuleOptimizer, x: Tensor<2>, labels: Tensor<1, Int>) -> Network {
        let logits = network.layer.forward(x);
        let loss = network.loss.forward(logits, labels);
        let grads = GradientsParams::from_grads(loss.backward(), &network);
        optimizer.step(1e-3, network, grads)
    }

    let device = Device::wgpu(Default::default()).autodiff();
    // burn's own: `burn::nn::loss::CrossEntropyLossConfig::new().init(&device)`.
    // Here with weights that follow each batch's own label counts, made on the device.
    let spec = Spec { class_weights: WeightScheme::Balanced.into(), ..Spec::default() };
    let loss = CrossEntropyLossConfig::new(spec, 10).init(&device);
    let mut network = Network { layer: LinearConfig::new(16, 10).init(&device), loss };
    let mut optimizer = AdamConfig::new().init();
    let (x, labels) = (Tensor::zeros([64, 16], &device), Tensor::zeros([64], &device));
    network = step(network, &mut optimizer, x, labels);
    drop(network);
}

#[rustfmt::skip] // As the page has it.
fn what_it_takes() -> Result<(), wgpu_cross_entropy_burn::LossError> {
    use burn::tensor::{Device, Tensor, TensorData};
    use wgpu_cross_entropy_burn::wgpu_cross_entropy::{ClassWeights, CountsOver, LiveCounts, SampleWeights, Spec, WeightScheme};
    use wgpu_cross_entropy_burn::{CrossEntropyLossConfig, Extras};

    let device = Device::flex().autodiff();

    // Segmentation: logits [batch, classes, height, width], labels [batch, height, width].
    let spec = Spec { class_weights: ClassWeights::Given(vec![0.5, 1.0, 4.0]), ..Spec::default() };
    let loss = CrossEntropyLossConfig::new(spec, 3).with_class_first(true).init(&device);
    let logits = Tensor::<4>::zeros([2, 3, 4, 4], &device).require_grad();
    let labels = Tensor::<3, burn::tensor::Int>::zeros([2, 4, 4], &device);
    let grads = loss.forward(logits.clone(), labels).backward();
    assert_eq!(logits.grad(&grads).expect("tracked").dims(), [2, 3, 4, 4]);

    // A moving average of the label counts, which is state of the module, and a weight for each sample.
    let spec = Spec {
        class_weights: WeightScheme::Balanced.into(),
        live_counts: LiveCounts { over: CountsOver::Ema { momentum: 0.9 }, ..LiveCounts::default() },
        sample_weights: SampleWeights::PerRow,
        ..Spec::default()
    };
    let loss = CrossEntropyLossConfig::new(spec, 3).init(&device);
    let logits = Tensor::<2>::zeros([4, 3], &device).require_grad();
    let labels = Tensor::<1, burn::tensor::Int>::from_data(TensorData::from([0, 0, 0, 1]), &device);
    let extras = Extras { sample_weights: Some(Tensor::ones([4], &device)), ..Extras::default() };
    let computed = loss.compute(logits, labels, extras)?;
    // Both read back: nothing for every step.
    println!("{:?}", computed.class_weights(3));
    println!("{:?}", computed.totals());
    Ok::<(), wgpu_cross_entropy_burn::LossError>(())
}

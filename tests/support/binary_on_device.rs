//! Asks a device for a sigmoid loss: see `on_device.rs`.

use wgpu_cross_entropy::binary_tolerance::binary_tolerances;
use wgpu_cross_entropy::{BinaryCrossEntropy, BinaryOptions, BinaryOutput};

use super::{Device, PLANS, Refusal, moved};
use crate::work::{Answer, BinaryLoss, Number, Numbers};

impl Device {
    pub(super) async fn binary(
        &mut self,
        loss: &BinaryLoss,
        raw: &BinaryOutput<f64>,
        exact: &Answer,
    ) -> Result<Answer, Refusal> {
        let inputs = loss.inputs();
        let options = BinaryOptions {
            grad_out: inputs.grad_out.is_some(),
            element_losses: true,
            in_place: true,
            workgroup_size: self.options.workgroup_size.filter(|size| size.is_power_of_two() && *size <= 256),
            ..BinaryOptions::default()
        };
        let key = format!("{:?} {:?} {options:?}", loss.spec, loss.shape);
        if !self.binary_plans.contains_key(&key) {
            if self.binary_plans.len() >= PLANS {
                self.binary_plans.clear();
            }
            let plan = BinaryCrossEntropy::new(&self.gpu.device, &loss.spec, loss.shape, &options)?;
            self.binary_plans.insert(key.clone(), plan);
        }
        let plan = &self.binary_plans[&key];
        let got = plan.compute(&self.gpu.device, &self.gpu.queue, &inputs).await?;
        let allowed = binary_tolerances(plan.config(), &inputs, raw);
        let (g, r) = (&got.totals, &raw.totals);
        let number =
            |got: f32, raw: f64, exact: f64, error: f64| Number { value: moved(got, raw, exact), error };
        let numbers = |got: &Option<Vec<f32>>, raw: &Option<Vec<f64>>, exact: &Numbers, errors: Vec<f64>| {
            let (got, raw) = (got.as_deref().unwrap_or_default(), raw.as_deref().unwrap_or_default());
            let values =
                got.iter().zip(raw).zip(&exact.values).map(|((g, r), e)| moved(*g, *r, *e)).collect();
            Numbers { values, errors }
        };
        let grads = numbers(
            &Some(got.logit_grads),
            &Some(raw.logit_grads.clone()),
            &exact.logit_grads,
            allowed.logit_grads,
        );
        Ok(Answer {
            loss: number(g.loss, r.loss, exact.loss.value, allowed.loss),
            loss_sum: number(g.loss_sum, r.loss_sum, exact.loss_sum.value, allowed.loss_sum),
            denominator: number(g.denominator, r.denominator, exact.denominator.value, allowed.denominator),
            element_losses: numbers(
                &got.element_losses,
                &raw.element_losses,
                &exact.element_losses,
                allowed.element_losses,
            ),
            logit_grads: grads,
            binary_counts: numbers(
                &got.binary_counts,
                &raw.binary_counts,
                &exact.binary_counts,
                allowed.binary_counts,
            ),
            factors: numbers(&got.factors, &raw.factors, &exact.factors, allowed.factors),
            sample_weight_sum: Number { value: g.sample_weight_sum.into(), error: allowed.sample_weight_sum },
            correct_weight: Number { value: g.correct_weight.into(), error: allowed.correct_weight },
            correct_rows: g.correct,
            valid_rows: g.valid,
            ..Answer::default()
        })
    }
}

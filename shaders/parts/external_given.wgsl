// The caller's own denominator: gradient accumulation, data parallel training.

@group(0) @binding(EXTERNAL_DENOMINATOR) var<storage, read> external_values: array<f32>;

fn external_denominator() -> f32 {
    return external_values[params.external_base];
}

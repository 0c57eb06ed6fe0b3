// The upstream gradient, one a row.

@group(0) @binding(GRAD_OUT) var<storage, read> grad_out_rows: array<f32>;

fn grad_out(row: u32) -> f32 {
    return grad_out_rows[params.grad_out_base + row];
}

// No gradients of four rows.

fn keep_grads(quarter: u32) {
}

fn store_quad(row: u32) {
}

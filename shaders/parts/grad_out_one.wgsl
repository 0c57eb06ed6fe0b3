// No upstream gradient: 1 for every row.

fn grad_out(row: u32) -> f32 {
    return 1.0;
}

// The factors of positives and negatives from the counts, into the table.
//
//     SCHEME 0, Live:  positive = negatives / positives, clamped; without positives the largest allowed, and the clamped
//                      1 in an empty batch;  negative = 1
//     SCHEME 1, Ratio: positive = all / positives, negative = all / negatives; 0 for a side that is empty

override WORKGROUP_SIZE: u32 = 64u;
override SCHEME: u32 = 0u;
override PER_COLUMN: bool = false;

@group(0) @binding(BINARY_COUNTS) var<storage, read> binary_counts: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let column = group_number(group) * WORKGROUP_SIZE + index;
    if (column >= select(1u, params.columns, PER_COLUMN)) { return; }
    let positives = binary_counts[params.binary_counts_base + 2u * column];
    let negatives = binary_counts[params.binary_counts_base + 2u * column + 1u];
    var positive = 0.0;
    var negative = 1.0;
    if (SCHEME == 0u) {
        positive = select(params.pos_weight_max, 1.0, negatives <= 0.0);
        if (positives > 0.0) { positive = negatives / positives; }
        positive = clamp(positive, params.pos_weight_min, params.pos_weight_max);
    } else {
        negative = 0.0;
        if (positives > 0.0) { positive = (positives + negatives) / positives; }
        if (negatives > 0.0) { negative = (positives + negatives) / negatives; }
    }
    table.values[2u * column] = bitcast<u32>(positive);
    table.values[2u * column + 1u] = bitcast<u32>(negative);
}

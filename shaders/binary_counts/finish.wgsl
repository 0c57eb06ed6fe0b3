// How many positives and negatives there are, second stage: adds up the blocks, in a fixed order.

override WORKGROUP_SIZE: u32 = 64u;
override PER_COLUMN: bool = false;

@group(0) @binding(PARTIALS) var<storage, read> partials: array<vec2<f32>>;
// [columns, 2]: positives, negatives
@group(0) @binding(BINARY_COUNTS) var<storage, read_write> binary_counts: array<f32>;

var<workgroup> shares: array<vec2<f32>, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let columns = select(1u, params.columns, PER_COLUMN);
    let width = min(columns, WORKGROUP_SIZE);
    let lanes = WORKGROUP_SIZE / width;
    let lane = index / width;
    let column = group_number(group) * width + index % width;
    var share = vec2<f32>(0.0);
    if (column < columns && lane < lanes) {
        for (var block = lane; block < params.partials; block += lanes) {
            share += partials[block * columns + column];
        }
    }
    shares[index] = share;
    // Every lane's share is written before one lane adds them up, in order.
    workgroupBarrier();
    if (lane == 0u && column < columns) {
        for (var other = 1u; other < lanes; other++) { share += shares[other * width + index]; }
        let at = params.binary_counts_base + 2u * column;
        binary_counts[at] = share.x;
        binary_counts[at + 1u] = share.y;
    }
}

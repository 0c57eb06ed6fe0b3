// How many positives and negatives there are, first stage: sums of t and of 1 - t over a block of positions, for each
// column or for all. Ignored targets and those that are not finite count nowhere.
//
// A position is a row where counts are by column, else an element. A workgroup takes up to WORKGROUP_SIZE columns side
// by side and shares the block's positions among its lanes. Blocks do not depend on the tiling; nor do the bits.

override WORKGROUP_SIZE: u32 = 64u;
override POSITIONS_PER_GROUP: u32 = 256u;
override PER_COLUMN: bool = false;

// [blocks, columns]: sum of t, sum of 1 - t
@group(0) @binding(PARTIALS) var<storage, read_write> partials: array<vec2<f32>>;

var<workgroup> shares: array<vec2<f32>, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let columns = select(1u, params.columns, PER_COLUMN);
    let width = min(columns, WORKGROUP_SIZE);
    let lanes = WORKGROUP_SIZE / width;
    let lane = index / width;
    let column = group_number(group) % params.column_groups * width + index % width;
    let block = group_number(group) / params.column_groups;
    let first = block * POSITIONS_PER_GROUP;
    let end = min(first + POSITIONS_PER_GROUP, params.positions);
    var share = vec2<f32>(0.0);
    if (column < columns && lane < lanes) {
        for (var position = first + lane; position < end; position += 4u * lanes) {
            let four = position + vec4<u32>(0u, 1u, 2u, 3u) * lanes;
            let inside = four < vec4<u32>(end);
            let last = min(four, vec4<u32>(end - 1u));
            // Whole blocks: a tile starts at a row's column 0 where counts are by column.
            let elements = select(last, elements_of(last, column), vec4<bool>(PER_COLUMN));
            let given = read_targets(places_of(elements).at);
            let counts = inside & given.finite & !given.ignored;
            let positive = select(vec4<f32>(0.0), given.values, counts);
            let negative = select(vec4<f32>(0.0), 1.0 - given.values, counts);
            share.x += (positive.x + positive.y) + (positive.z + positive.w);
            share.y += (negative.x + negative.y) + (negative.z + negative.w);
        }
    }
    shares[index] = share;
    // Every lane's share is written before one lane adds them up, in order.
    workgroupBarrier();
    // The grid may be larger than the work by some workgroups.
    if (lane == 0u && column < columns && first < params.positions) {
        for (var other = 1u; other < lanes; other++) { share += shares[other * width + index]; }
        partials[(params.partials + block) * columns + column] = share;
    }
}

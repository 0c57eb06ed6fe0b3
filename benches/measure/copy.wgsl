// The ceiling: as many bytes read as written, 16 at a time, a few vectors an invocation, and nothing else. A kernel that
// moves the same bytes by the same loads cannot be expected to be faster on the same device through the same compiler. A
// copy in words of 64 bits is measured beside it: some drivers for CPUs are faster then. `copy.rs` puts the
// lines in; where they add up, it only reads.

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(0) var<storage, read> source: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> target_words: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // The grid has a second dimension where the first one's limit is passed; its last line may be too long.
    let number = group.y * groups.x + group.x;
    let at = number * WORKGROUP_SIZE * VECTORSu + lane;
    if (at + (VECTORSu - 1u) * WORKGROUP_SIZE >= arrayLength(&source)) { return; }
    LOADS
    STORES
}

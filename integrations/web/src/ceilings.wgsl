// The ceilings: as many bytes read as written, or only read, 16 at a time, and nothing else. A kernel that moves the same
// bytes cannot be expected to be faster on the same device through the same compiler.

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(0) var<storage, read> source: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> target_words: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn copy(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // The grid has a second dimension where the first one's limit is passed; its last line may be too long.
    let at = (group.y * groups.x + group.x) * WORKGROUP_SIZE + lane;
    if (at < arrayLength(&source)) { target_words[at] = source[at]; }
}

// Four vectors an invocation, so that loads are in flight together. A last part of less than that is left out.
@compute @workgroup_size(WORKGROUP_SIZE)
fn sum(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = (group.y * groups.x + group.x) * WORKGROUP_SIZE * 4u + lane;
    if (at + 3u * WORKGROUP_SIZE >= arrayLength(&source)) { return; }
    let low = source[at] + source[at + WORKGROUP_SIZE];
    let total = low + source[at + 2u * WORKGROUP_SIZE] + source[at + 3u * WORKGROUP_SIZE];
    // Without a store there would be no loads; this one comes about once in 2^32.
    if (total.x + total.y + total.z + total.w == 0x9e3779b9u) { target_words[at] = total; }
}

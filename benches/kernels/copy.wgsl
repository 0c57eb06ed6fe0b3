// The ceiling: as many bytes read as written, 16 at a time, one vector an invocation, and nothing else. A kernel that
// moves the same bytes cannot be expected to be faster on the same device through the same compiler.

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
    let at = (group.y * groups.x + group.x) * WORKGROUP_SIZE + lane;
    if (at < arrayLength(&source)) { target_words[at] = source[at]; }
}

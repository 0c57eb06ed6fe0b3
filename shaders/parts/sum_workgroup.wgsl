// Adds up the invocations' sums of a workgroup, in a fixed order: the same bits in every run. Every invocation gets
// the result. Called once in a kernel.

var<workgroup> sums_of: array<Sums, WORKGROUP_SIZE>;

fn add_up(sums: Sums, index: u32) -> Sums {
    sums_of[index] = sums;
    for (var half = WORKGROUP_SIZE / 2u; half > 0u; half = half / 2u) {
        // The other half is written before it is read, and read before it is written again.
        workgroupBarrier();
        if (index < half) { sums_of[index] = add(sums_of[index], sums_of[index + half]); }
    }
    workgroupBarrier();
    return sums_of[0];
}

// An invocation a row: its share is the row.
//
// This and its two siblings are the only reductions over a row. They are written for `Part`; for `Moments` the same
// text is taken with other names (see `src/wgsl.rs`).

fn reduce(part: Part, lane: Lane) -> Part {
    return part;
}

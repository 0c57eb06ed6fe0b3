// Runs meet in workgroup memory first: few classes, so that workgroups do not queue for the same words.

// The words of the most classes that fit; the host takes `stats_direct` beyond it.
override PRIVATE_STATS_WORDS: u32 = 1024u;
// The most pairs of classes that fit; more go straight into the telemetry.
override PRIVATE_CELLS: u32 = 1024u;

// As the telemetry has it, class by class.
var<workgroup> found: array<atomic<u32>, PRIVATE_STATS_WORDS>;
var<workgroup> found_cells: array<atomic<u32>, PRIVATE_CELLS>;

fn private_cells() -> u32 {
    let cells = params.classes * params.classes;
    return select(0u, cells, CONFUSION && cells <= PRIVATE_CELLS);
}

fn open_stats(index: u32) {
    for (var at = index; at < params.classes * CLASS_WORDS; at += WORKGROUP_SIZE) { atomicStore(&found[at], 0u); }
    for (var at = index; at < private_cells(); at += WORKGROUP_SIZE) { atomicStore(&found_cells[at], 0u); }
    // Cleared before anyone adds: workgroup memory does not start as zero.
    workgroupBarrier();
}

fn hand_on(run: Run) {
    add_run_found(run);
}

fn hand_on_cell(cell: Cell) {
    if (cell.at < private_cells()) {
        atomicAdd(&found_cells[cell.at], cell.rows);
    } else {
        add_cell(cell);
    }
}

fn sum_at(at: u32) -> vec3<u32> {
    return vec3<u32>(atomicLoad(&found[at]), atomicLoad(&found[at + 1u]), atomicLoad(&found[at + 2u]));
}

fn close_stats(index: u32) {
    // All have added before anyone hands on.
    workgroupBarrier();
    for (var class_index = index; class_index < params.classes; class_index += WORKGROUP_SIZE) {
        // A workgroup has fewer than 2^32 rows: the upper words of its counts are 0.
        let at = class_index * CLASS_WORDS;
        var run = run_of(class_index);
        run.rows = atomicLoad(&found[at + ROWS_AT]);
        run.correct = atomicLoad(&found[at + CORRECT_AT]);
        run.unsummed = atomicLoad(&found[at + UNSUMMED_AT]);
        run.loss = sum_at(at + LOSS_AT);
        run.weight = sum_at(at + WEIGHT_AT);
        run.correct_weight = sum_at(at + CORRECT_WEIGHT_AT);
        add_run(run);
    }
    for (var at = index; at < private_cells(); at += WORKGROUP_SIZE) {
        add_cell(Cell(at, atomicLoad(&found_cells[at])));
    }
}

// Runs go straight into the telemetry: many classes, whose rows seldom meet, or a CPU.

fn open_stats(index: u32) {
}

fn hand_on(run: Run) {
    add_run(run);
}

fn hand_on_cell(cell: Cell) {
    add_cell(cell);
}

fn close_stats(index: u32) {
}

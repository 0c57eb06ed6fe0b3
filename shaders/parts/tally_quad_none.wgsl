// Nothing is counted.

fn close_tally(lane: Lane) {
}

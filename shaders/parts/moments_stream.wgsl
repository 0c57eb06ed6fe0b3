// The second visit to a row that does not fit registers. It walks backwards: the end of the row was read last, and is
// the likeliest to be in a cache.

fn visit_moments(row: u32, row_at: u32, in_row: u32, goal: Target, result: RowResult, visit: bool) -> Moments {
    var moments = empty_moments();
    let step = 4u * BLOCKS * lanes();
    let mine = first_class(in_row);
    let classes_to_read = select(0u, class_count(), visit);
    for (var left = (max(classes_to_read, mine) - mine + step - 1u) / step; left > 0u; left--) {
        let first = mine + (left - 1u) * step;
        hold(row_at, first);
        moments = add_held(moments, goal, row_at, first, result);
    }
    return moments;
}

// The telemetry: what each class had since the caller last cleared it. `src/stats.rs` holds its twin.
//
//     of each class CLASS_WORDS words: three counts of two words, three sums of three words, one word unused
//     then, with CONFUSION, [classes, classes] counts of two words: rows the true class, columns the predicted one
//
// Words of a number go from low to high. A sum is a whole number of 2^-48, in two's complement.

const CLASS_WORDS: u32 = 16u;
const ROWS_AT: u32 = 0u;
const CORRECT_AT: u32 = 2u;
const UNSUMMED_AT: u32 = 4u;
const LOSS_AT: u32 = 6u;
const WEIGHT_AT: u32 = 9u;
const CORRECT_WEIGHT_AT: u32 = 12u;

@group(0) @binding(TELEMETRY) var<storage, read_write> counters: array<atomic<u32>>;

// Rows of one class, one after the other.
struct Run {
    class_index: u32,
    rows: u32,
    correct: u32,
    unsummed: u32,
    loss: vec3<u32>,
    weight: vec3<u32>,
    correct_weight: vec3<u32>,
}

fn run_of(class_index: u32) -> Run {
    return Run(class_index, 0u, 0u, 0u, vec3<u32>(0u), vec3<u32>(0u), vec3<u32>(0u));
}

// Rows of one true and one predicted class.
struct Cell {
    at: u32, // true class * classes + predicted class
    rows: u32,
}

fn add_cell(cell: Cell) {
    add_count(params.classes * CLASS_WORDS + 2u * cell.at, cell.rows);
}

// Adds to a class's exact sum, while others do: each word by an atomic, which says what it carries to the next.

@group(0) @binding(MASS) var<storage, read_write> mass: array<atomic<u32>>;

// The largest exponent of a term: 2^32 rows of it stay below 2^63.
const TERM_LIMIT: u32 = 29u;

fn add_word(at: u32, word: u32, carry: u32) -> u32 {
    let sum = word + carry;
    // Nothing to add: no carry came, or a word of ones passes it on.
    if (sum == 0u) { return carry; }
    let before = atomicAdd(&mass[at], sum);
    return select(0u, 1u, before > ~sum);
}

fn add_mass(class_index: u32, x: vec4<u32>) {
    let at = 4u * class_index;
    var carry = add_word(at, x.x, 0u);
    carry = add_word(at + 1u, x.y, carry);
    carry = add_word(at + 2u, x.z, carry);
    carry = add_word(at + 3u, x.w, carry);
}

// The factors of positives and negatives, from the table: one pair for each column, or one for all.

override PER_COLUMN: bool = false;

struct Factors {
    positive: vec4<f32>,
    negative: vec4<f32>,
}

fn factors_of(column: vec4<u32>) -> Factors {
    if (!PER_COLUMN) {
        let positive = bitcast<f32>(table.values[0]);
        let negative = bitcast<f32>(table.values[1]);
        return Factors(vec4<f32>(positive), vec4<f32>(negative));
    }
    let i = column * 2u;
    let positive = vec4<u32>(table.values[i.x], table.values[i.y], table.values[i.z], table.values[i.w]);
    let j = i + vec4<u32>(1u);
    let negative = vec4<u32>(table.values[j.x], table.values[j.y], table.values[j.z], table.values[j.w]);
    return Factors(bitcast<vec4<f32>>(positive), bitcast<vec4<f32>>(negative));
}

// The cost matrix, behind the class weights in the table. Rows: true class. Columns: predicted class.

fn cost(class_index: u32, predicted: u32) -> f32 {
    return table.values[params.classes + class_index * params.classes + predicted];
}

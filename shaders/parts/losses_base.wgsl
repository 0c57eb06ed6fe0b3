// Where row losses lie, and which rows of the batch these are: read once, outside of any branch, as in `class_count`.

var<private> base_of_losses: u32;
var<private> first_row_of_tile: u32;

fn open_losses() {
    base_of_losses = params.row_losses_base;
    first_row_of_tile = params.first_row;
}

// The class that the row predicts: by the logits themselves.
fn predicted_class(whole: Part) -> u32 {
    // A class of a row that is not bad; what a bad row predicts is never used.
    return min(select(whole.top_at, whole.raw_top_at, ADJUSTS), class_count() - 1u);
}

// Logits that are only read.

@group(0) @binding(LOGITS) var<storage, read> logits: array<StoredWord>;

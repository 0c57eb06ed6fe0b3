// The elements' losses are added up and not written.

fn store_losses(at: vec4<u32>, inside: vec4<bool>, words: vec4<u32>) {}

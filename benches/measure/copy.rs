//! The copy that kernels are held against, as text: the same for the native benches and for the page in a browser.

/// How a copy goes about it.
#[derive(Clone, Copy, Debug)]
pub struct CopyShape {
    /// Invocations in a workgroup.
    pub workgroup_size: u32,
    /// Vectors of four words an invocation.
    pub vectors: u32,
    /// Whether it only reads, and adds up.
    pub sums: bool,
    /// Whether words have 64 bits.
    pub wide: bool,
}

impl CopyShape {
    pub const fn new(workgroup_size: u32, vectors: u32, sums: bool) -> Self {
        Self { workgroup_size, vectors, sums, wide: false }
    }

    /// The same in words of 64 bits: for devices that have them.
    #[allow(dead_code, reason = "a browser has none")]
    pub const fn wide(self) -> Self {
        Self { wide: true, ..self }
    }

    /// Bytes of a vector.
    pub const fn vector_bytes(&self) -> u64 {
        if self.wide { 32 } else { 16 }
    }

    /// Bytes that it moves for each byte of the source.
    pub const fn moved(&self) -> u64 {
        if self.sums { 1 } else { 2 }
    }

    /// The shader: entry point `main`, and a pipeline constant `WORKGROUP_SIZE`.
    pub fn text(&self) -> String {
        // Loops would be as good on GPUs, but CPU drivers pay for them: a line a vector.
        let lines = |line: &str, between: &str| {
            let lines: Vec<_> = (0..self.vectors).map(|n| line.replace("VECTOR", &n.to_string())).collect();
            lines.join(between)
        };
        let stores = match self.sums {
            false => lines("target_words[at + VECTORu * WORKGROUP_SIZE] = v_VECTOR;", "\n    "),
            // Without a store there would be no loads; this one comes about once in 2^32.
            true => format!(
                "let total = {};\n    if (total.x + total.y + total.z + total.w == 0x9e3779b9u) {{ target_words[at] = total; }}",
                lines("v_VECTOR", " + ")
            ),
        };
        include_str!("copy.wgsl")
            .replace("LOADS", &lines("let v_VECTOR = source[at + VECTORu * WORKGROUP_SIZE];", "\n    "))
            .replace("STORES", &stores)
            .replace("VECTORS", &self.vectors.to_string())
            .replace("vec4<u32>", if self.wide { "vec4<u64>" } else { "vec4<u32>" })
    }
}

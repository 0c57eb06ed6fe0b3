//! For this crate's own tests.

use std::sync::atomic::{AtomicBool, Ordering};

static CHECKS: AtomicBool = AtomicBool::new(false);

/// Compiles shaders with all of naga's run-time checks from now on, or without any: what a test compares. A check that
/// is on takes nothing away from another plan, so that tests need not take turns.
pub fn set_shader_checks(on: bool) {
    CHECKS.store(on, Ordering::Relaxed);
}

/// The checks of the next shader.
pub(crate) fn shader_checks() -> wgpu::ShaderRuntimeChecks {
    match CHECKS.load(Ordering::Relaxed) {
        true => wgpu::ShaderRuntimeChecks::checked(),
        false => wgpu::ShaderRuntimeChecks::unchecked(),
    }
}

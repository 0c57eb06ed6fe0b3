#!/usr/bin/env bash
# Builds the loss for burn and tests it; the last lines are the tests' summaries. The first build compiles some 340 crates.
#
#     integrations/burn/run.sh     on the best adapter; on Debian and Ubuntu it installs Mesa's Vulkan where there is none
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

packages=(libvulkan1 mesa-vulkan-drivers)
if command -v dpkg-query >/dev/null; then
    missing=()
    for package in "${packages[@]}"; do
        # shellcheck disable=SC2016 # dpkg-query's own variable
        if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            missing+=("$package")
        fi
    done
    if [ "${#missing[@]}" -gt 0 ]; then
        as_root=()
        [ "$(id -u)" -eq 0 ] || as_root=(sudo)
        echo "run.sh: installing ${missing[*]}"
        "${as_root[@]}" apt-get -q update >/dev/null
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends \
            "${missing[@]}" >/dev/null
    fi
fi
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then
    XDG_RUNTIME_DIR=$(mktemp -d)
    export XDG_RUNTIME_DIR
    trap 'rm -rf "$XDG_RUNTIME_DIR"' EXIT
fi

log=$(mktemp)
status=0
cargo test --release --locked --all-targets --no-run
cargo test --release --locked --tests 2>&1 | tee "$log" || status=$?
if [ "$status" -eq 0 ]; then
    cargo test --release --locked --doc 2>&1 | tee -a "$log" || status=$?
fi
echo "run.sh: the tests of wgpu-cross-entropy-burn"
grep -E '^(test result|test .*FAILED)' "$log" || true
rm -f "$log"
exit "$status"

#!/usr/bin/env bash
# Trains with 1, 2 and 4 ranks of Open MPI and compares them. Installs what it needs on Debian and Ubuntu.
#
#     integrations/mpi/run.sh            builds, runs and compares; the last line is one JSON object
#     integrations/mpi/run.sh --test     the same after the tests, in which ranks are lost
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

packages=(libopenmpi-dev openmpi-bin libclang-dev)
gpu_packages=(libvulkan1 mesa-vulkan-drivers)
if command -v dpkg-query >/dev/null; then
    missing=()
    for package in "${packages[@]}" "${gpu_packages[@]}"; do
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
command -v mpirun >/dev/null || { echo "run.sh: mpirun is missing; install Open MPI"; exit 1; }
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then
    XDG_RUNTIME_DIR=$(mktemp -d)
    export XDG_RUNTIME_DIR
    trap 'rm -rf "$XDG_RUNTIME_DIR"' EXIT
fi

cargo build --release --locked
if [ "${1:-}" = --test ]; then
    cargo test --release --locked -- --test-threads 1
fi

target=${CARGO_TARGET_DIR:-target}
program=$target/release/wgpu-cross-entropy-mpi
reports=$target/reports
mkdir -p "$reports"
flags=(--oversubscribe)
[ "$(id -u)" -ne 0 ] || flags+=(--allow-run-as-root)
# Ranks take turns on few cores: they yield while they wait.
train() { mpirun "${flags[@]}" --mca mpi_yield_when_idle 1 -n "$1" "$program" train --report "$reports/$2.json" "${@:3}"; }
for ranks in 1 2 4; do
    train "$ranks" "$ranks"
done
train 4 local --local-weights
"$program" compare "$reports"/{1,2,4}.json --local "$reports/local.json"

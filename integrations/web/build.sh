#!/usr/bin/env bash
# Builds the page into dist/, a folder of files for any web server:
#
#     integrations/web/build.sh
#     python3 -m http.server --bind 127.0.0.1 --directory integrations/web/dist
#
# It adds Rust's wasm32-unknown-unknown target and builds wasm-bindgen where they are missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

target="$(cd ../.. && pwd)/target"
tools="$target/web/tools"
export CARGO_TARGET_DIR="$target/web"
mkdir -p "$tools"
# shellcheck source=toolchain.sh
source toolchain.sh

if ! command -v cargo >/dev/null; then
    say "cargo is missing; install Rust first (rustup)"
    exit 1
fi
wasm_bindgen || exit "$CANNOT"
wasm_compiler || exit "$CANNOT"
began=$SECONDS
cargo build --release --locked --target wasm32-unknown-unknown
say "the build took $((SECONDS - began)) s"

rm -rf dist
mkdir dist
cp page/* dist/
cp -r ../../tests/golden dist/golden
"$bindgen" --target web --no-typescript --out-dir dist/pkg \
    "$CARGO_TARGET_DIR/wasm32-unknown-unknown/release/wgpu_cross_entropy_web.wasm"
say "the page is in ${PWD#"$(cd ../.. && pwd)"/}/dist"

#!/usr/bin/env bash
# The shader gate: every text that the crate can emit, in every form, through every compiler that can be had without a GPU.
#
#     tests/shader_gate.sh                       a few minutes
#     SHADER_GATE_FULL=1 tests/shader_gate.sh    slow compilers take every text too, not only a cover of all pairs
#
# naga writes SPIR-V, MSL, HLSL and GLSL (tests/gate); spirv-val, glslangValidator and DXC judge that, and Tint (Dawn for
# Node on its null back end) the WGSL. Sets up what it needs below target/, prints a table, and ends with
# "N passed, N failed".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

say() { printf 'shader_gate.sh: %s\n' "$*"; }

tools="$PWD/target/shader_gate/tools"
folder="$PWD/target/shader_gate/texts"
cores=$(nproc)
mkdir -p "$tools"

# Debian's packages, as root or with a sudo that asks nothing. NAME=COMMAND: the package, and what it brings.
install_missing() {
    local wanted missing=() as_root=()
    for wanted in "$@"; do
        command -v "${wanted#*=}" >/dev/null || missing+=("${wanted%=*}")
    done
    [ "${#missing[@]}" -eq 0 ] && return
    command -v apt-get >/dev/null || { say "install these first: ${missing[*]}"; exit 1; }
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    say "installing ${missing[*]}"
    "${as_root[@]}" apt-get -q -o DPkg::Lock::Timeout=300 update >/dev/null || say "apt-get update failed; going on"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
        install --no-install-recommends "${missing[@]}" >/dev/null
}

# Dawn for Node brings its binary in the package; no install script is needed.
fetch_tint() {
    webgpu="$tools/node_modules/webgpu/index.js"
    [ -f "$webgpu" ] && return
    say "fetching Dawn for Node"
    npm install --silent --ignore-scripts --no-audit --no-fund --prefix "$tools" webgpu@0.6.2
    [ -f "$webgpu" ]
}

# DXC's Linux library lies in the source package of compushady. Without it the gate says so and goes on.
fetch_dxc() {
    dxc="$tools/libdxcompiler.so"
    no_dxc=""
    [ -f "$dxc" ] && return
    if [ "$(uname -m)" != x86_64 ]; then
        no_dxc="DXC is not there: this is no x86_64"
        return
    fi
    say "fetching DXC"
    local scratch="$tools/dxc.new"
    rm -rf "$scratch"
    mkdir -p "$scratch"
    if python3 -m pip download -q --no-deps --no-binary :all: -d "$scratch" compushady==0.17.5 >"$scratch/log" 2>&1 ||
        compgen -G "$scratch/compushady-*.tar.gz" >/dev/null; then
        tar -xzf "$scratch"/compushady-*.tar.gz -C "$scratch" --strip-components=3 --wildcards '*/libdxcompiler_x86_64.so.*' &&
            mv "$scratch"/libdxcompiler_x86_64.so.* "$dxc"
    fi
    [ -f "$dxc" ] || no_dxc="DXC could not be fetched: $(tail -n 1 "$scratch/log")"
    rm -rf "$scratch"
}

# timed NAME COMMAND...
timed() {
    local name=$1 began=$SECONDS
    shift
    "$@"
    say "$name took $((SECONDS - began)) s"
}

# Hashes of the files that were accepted, from their paths on standard input.
names() { sed -e 's|.*/||' -e 's|\.[a-z]*$||'; }

judge_tint() {
    local part running=()
    for ((part = 0; part < cores; part++)); do
        node tests/gate/tint.mjs "$folder" "$webgpu" "$part" "$cores" &
        running+=($!)
    done
    for part in "${running[@]}"; do
        wait "$part"
    done
}

# spirv-val takes one file at a time.
judge_spirv() {
    local column=$1 environment=$2
    # shellcheck disable=SC2016 # the inner shell's own variables
    find "$folder/$column" -name '*.spv' -print0 |
        xargs -0 -P "$cores" -n 64 sh -c 'environment=$0
            for file; do spirv-val --target-env "$environment" "$file" && printf "%s\n" "$file"; done; true' "$environment" \
            2>"$folder/$column.log" | names >"$folder/$column.accepted"
}

# glslangValidator prints the name of each file, then what is wrong with it.
judge_glsl() {
    local column=$1
    find "$folder/$column" -name '*.comp' -print0 |
        { xargs -0 -P "$cores" -n 64 sh -c 'glslangValidator -S comp "$@" >"$0.$$.out"; true' "$folder/$column"; }
    cat "$folder/$column".*.out >"$folder/$column.log"
    awk '/\.comp$/ && !/ERROR/ { if (file != "" && !bad) print file; file = $0; bad = 0; next } /ERROR|error/ { bad = 1 }
        END { if (file != "" && !bad) print file }' "$folder/$column.log" | names >"$folder/$column.accepted"
    rm -f "$folder/$column".*.out
}

# Only those that the list asks for.
judge_dxc() {
    local column=$1 model=$2 part running=()
    {
        node -e '
            const [folder, column] = process.argv.slice(1);
            const lines = require("readline").createInterface({ input: require("fs").createReadStream(folder + "/list.jsonl") });
            const seen = new Set();
            lines.on("line", (text) => seen.add(JSON.parse(text).files[column]));
            lines.on("close", () => seen.forEach((file) => file && console.log(file)));' "$folder" "$column"
        echo planted
    } | sed -e "s|^|$folder/${column/dxc/hlsl}/|" -e 's|$|.hlsl|' >"$folder/$column.list"
    for ((part = 0; part < cores; part++)); do
        awk -v part="$part" -v parts="$cores" 'NR % parts == part' "$folder/$column.list" |
            python3 tests/gate/dxc.py "$dxc" "$model" 2>"$folder/$column.$part.log" | names >"$folder/$column.$part.accepted" &
        running+=($!)
    done
    for part in "${running[@]}"; do
        wait "$part"
    done
}

command -v cargo >/dev/null || { say "cargo is missing; install Rust first (rustup)"; exit 1; }
install_missing spirv-tools=spirv-val glslang-tools=glslangValidator nodejs=node npm=npm python3=python3 python3-pip=pip
fetch_tint
fetch_dxc

rm -rf "$folder"
mkdir -p "$folder"
timed build cargo test --release --locked --test gate --no-run
SHADER_GATE_FOLDER="$folder" timed naga cargo test --release --locked --test gate -- --nocapture ||
    say "naga refused a text; the table has it"
timed Tint judge_tint
timed "spirv-val for SPIR-V 1.3" judge_spirv spirv_1_3 vulkan1.1
timed "spirv-val for SPIR-V 1.6" judge_spirv spirv_1_6 vulkan1.3
timed "glslangValidator for ESSL 3.10" judge_glsl essl_310
timed "glslangValidator for GLSL 4.30" judge_glsl glsl_430
if [ -z "$no_dxc" ]; then
    timed "DXC for SM 6.0" judge_dxc dxc_6_0 6_0
    timed "DXC for SM 6.6" judge_dxc dxc_6_6 6_6
fi
node tests/gate/table.mjs "$folder" ${no_dxc:+"$no_dxc"}

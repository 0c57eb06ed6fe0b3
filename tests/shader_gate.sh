#!/usr/bin/env bash
# The shader gate: every text that the crate can emit, in every form, through every compiler that can be had without a GPU.
#
#     SHADER_GATE_COVER=1 tests/shader_gate.sh   a few minutes: texts in which every pair of choices of a stage is met
#     tests/shader_gate.sh                       every text; with other numbers, embedded and for DXC that cover
#     SHADER_GATE_FULL=1 tests/shader_gate.sh    every text with all its numbers, in every form, for every compiler
#
# naga writes SPIR-V, MSL, HLSL and GLSL (tests/gate); spirv-val, glslangValidator and DXC judge that, and Tint (Dawn for
# Node on its null back end) the WGSL. Sets up what it needs below target/, prints a table, and ends with
# "N passed, N failed". A compiler that cannot be had is left out, and the table says why; without Node, which makes the
# table, the exit status is 77.
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
    command -v apt-get >/dev/null || { say "there is no apt-get here; missing are ${missing[*]}"; return; }
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    say "installing ${missing[*]}"
    "${as_root[@]}" apt-get -q -o DPkg::Lock::Timeout=300 update >/dev/null || say "apt-get update failed; going on"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
        install --no-install-recommends "${missing[@]}" >/dev/null || say "apt-get could not install ${missing[*]}"
}

# What cannot be had, by the first word of its columns in the table, and why.
declare -A without=()

# Dawn for Node brings its binary in the package; no install script is needed.
fetch_tint() {
    webgpu="$tools/node_modules/webgpu/index.js"
    local log="$tools/npm.log"
    if [ ! -f "$webgpu" ]; then
        say "fetching Dawn for Node"
        npm install --silent --ignore-scripts --no-audit --no-fund --prefix "$tools" webgpu@0.6.2 >"$log" 2>&1 || true
    fi
    if [ ! -f "$webgpu" ]; then
        without[tint]="npm could not fetch Dawn for Node: $(tail -n 1 "$log")"
    elif ! node --input-type=module -e "
            const { create } = await import('file://$webgpu');
            process.exit(await create(['backend=null']).requestAdapter() ? 0 : 1);" >"$log" 2>&1; then
        without[tint]="Dawn for Node does not run here: $(grep -m 1 Error "$log" || tail -n 1 "$log")"
    fi
}

# DXC's Linux library lies in the source package of compushady.
fetch_dxc() {
    dxc="$tools/libdxcompiler.so"
    if [ "$(uname -m)" != x86_64 ]; then
        without[dxc]="the library of DXC is for x86_64"
        return
    fi
    if [ ! -f "$dxc" ]; then
        say "fetching DXC"
        local scratch="$tools/dxc.new"
        rm -rf "$scratch"
        mkdir -p "$scratch"
        # pip may fail in the package's own set-up, when the archive is already here.
        python3 -m pip download -q --no-deps --no-binary :all: -d "$scratch" compushady==0.17.5 >"$scratch/log" 2>&1 || true
        if compgen -G "$scratch/compushady-*.tar.gz" >/dev/null; then
            tar -xzf "$scratch"/compushady-*.tar.gz -C "$scratch" --strip-components=3 --wildcards '*/libdxcompiler_x86_64.so.*' &&
                mv "$scratch"/libdxcompiler_x86_64.so.* "$dxc"
        fi
        [ -f "$dxc" ] || without[dxc]="DXC could not be fetched: $(tail -n 1 "$scratch/log")"
        rm -rf "$scratch"
    fi
    [ ! -f "$dxc" ] || python3 -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$dxc" 2>"$tools/dxc.log" ||
        without[dxc]="DXC does not load here: $(tail -n 1 "$tools/dxc.log")"
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
            // As table.mjs has it.
            const taken = (file) => file && (!process.env.SHADER_GATE_COVER || file < "2");
            lines.on("close", () => seen.forEach((file) => taken(file) && console.log(file)));' "$folder" "$column"
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
command -v node >/dev/null || { say "there is no Node, which runs Tint and makes the table"; exit 77; }
command -v spirv-val >/dev/null || without[spirv]="there is no spirv-val"
command -v glslangValidator >/dev/null || without[glsl]="there is no glslangValidator"
fetch_tint
fetch_dxc
for compiler in "${!without[@]}"; do say "left out: ${without[$compiler]}"; done

# judge COMPILER NAME COMMAND...: unless it cannot be had.
judge() {
    local compiler=$1
    shift
    [ -n "${without[$compiler]:-}" ] || timed "$@"
}

rm -rf "$folder"
mkdir -p "$folder"
timed build cargo test --release --locked --test gate --no-run
SHADER_GATE_FOLDER="$folder" timed naga cargo test --release --locked --test gate -- --nocapture ||
    say "naga refused a text; the table has it"
judge tint Tint judge_tint
judge spirv "spirv-val for SPIR-V 1.3" judge_spirv spirv_1_3 vulkan1.1
judge spirv "spirv-val for SPIR-V 1.6" judge_spirv spirv_1_6 vulkan1.3
judge glsl "glslangValidator for ESSL 3.10" judge_glsl essl_310
judge glsl "glslangValidator for GLSL 4.30" judge_glsl glsl_430
judge dxc "DXC for SM 6.0" judge_dxc dxc_6_0 6_0
judge dxc "DXC for SM 6.6" judge_dxc dxc_6_6 6_6
reasons=()
for compiler in "${!without[@]}"; do reasons+=("$compiler=${without[$compiler]}"); done
node tests/gate/table.mjs "$folder" "${reasons[@]}"

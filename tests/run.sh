#!/usr/bin/env bash
# Sets up software GPUs where they are missing, and runs all tests on every adapter of this machine:
#
#     tests/run.sh                    all tests
#     tests/run.sh --test kernels     arguments go to `cargo test`
#
# On Debian and Ubuntu it installs Mesa's Vulkan and GL drivers if they are absent, and on Debian it unpacks SwiftShader,
# a second Vulkan driver, into target/. Real GPUs stay visible and are tested too. Elsewhere nothing is installed, and
# the tests run on the adapters there are.
#
# WGPU_CROSS_ENTROPY_ADAPTERS=n, if set, overrides how many adapters the tests ask for.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'run.sh: %s\n' "$*"; }

# Which of the packages given are not installed.
missing_of() {
    local package
    for package in "$@"; do
        # shellcheck disable=SC2016 # dpkg-query's own variables
        if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            echo "$package"
        fi
    done
}

# Root, or a sudo that asks nothing, or a person at the terminal to answer it.
can_install() {
    [ "$(id -u)" -eq 0 ] || { command -v sudo && { [ -t 0 ] || sudo -n true; }; } >/dev/null 2>&1
}

apt_get() {
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        as_root=(sudo)
    fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

update_lists() {
    apt_get -q update >/dev/null || say "apt-get update failed; going on with the lists there are"
}

# wgpu's GL back end loads libEGL; Mesa's EGL draws through the drivers of libgl1-mesa-dri, and libvulkan1 is the
# Vulkan loader.
gpu_packages=(libvulkan1 mesa-vulkan-drivers libegl1 libegl-mesa0 libgles2 libgl1-mesa-dri)

install_packages() {
    local wanted=("${gpu_packages[@]}") missing
    command -v cc >/dev/null || wanted+=(gcc libc6-dev)
    mapfile -t missing < <(missing_of "${wanted[@]}")
    if [ "${#missing[@]}" -eq 0 ]; then
        return
    fi
    if ! can_install; then
        say "nothing is installed, for want of root and sudo; missing are ${missing[*]}"
        return
    fi
    say "installing ${missing[*]}"
    update_lists
    apt_get -q install --no-install-recommends "${missing[@]}" >/dev/null ||
        say "apt-get could not install ${missing[*]}"
}

swiftshader="$PWD/target/swiftshader"

# Into the current folder. Lists may be absent or out of date: then a second try, behind an update.
download_chromium_common() {
    local download=(apt-get -q download chromium-common)
    "${download[@]}" >/dev/null 2>&1 && return
    can_install && update_lists && "${download[@]}" >/dev/null 2>&1
}

# SwiftShader lies in Debian's chromium-common, a small part of the browser.
fetch_swiftshader() {
    local library="$swiftshader/libvk_swiftshader.so" scratch="$PWD/target/swiftshader.new" found
    if [ ! -f "$library" ]; then
        say "fetching SwiftShader"
        rm -rf "$scratch"
        mkdir -p "$scratch"
        if ! (cd "$scratch" && download_chromium_common && dpkg -x chromium-common_*.deb .); then
            say "without SwiftShader: chromium-common could not be downloaded"
            rm -rf "$scratch"
            return 1
        fi
        found="$scratch/usr/lib/chromium"
        if [ ! -f "$found/libvk_swiftshader.so" ]; then
            say "without SwiftShader: this chromium-common holds none"
            rm -rf "$scratch"
            return 1
        fi
        mkdir -p "$swiftshader"
        # The validation layer comes along.
        if [ -f "$found/libVkLayer_khronos_validation.so" ]; then
            mv "$found/libVkLayer_khronos_validation.so" "$swiftshader/"
        fi
        mv "$found/libvk_swiftshader.so" "$library"
        rm -rf "$scratch"
    fi
    # The path is this machine's, so the file is written anew in each run.
    printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.0.5"}}\n' \
        "$library" >"$swiftshader/icd.json"
}

# Adds SwiftShader to the system's own drivers, none of which is hidden.
add_swiftshader() {
    local loader system
    # shellcheck disable=SC2016 # dpkg-query's own variables
    loader=$(dpkg-query -W -f '${Version}' libvulkan1 2>/dev/null || true)
    # shellcheck source=/dev/null # every system has its own
    system=$(. /etc/os-release && echo "$ID")
    if [ "$system" != debian ]; then
        say "without SwiftShader: it comes from Debian's packages, and this is $system"
    elif [ -z "$loader" ] || dpkg --compare-versions "$loader" lt 1.3.207; then
        say "without SwiftShader: it takes a Vulkan loader of 1.3.207 or later; here is ${loader:-none}"
    elif [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ]; then
        say "without SwiftShader: VK_DRIVER_FILES or VK_ICD_FILENAMES already says which drivers to use"
    elif fetch_swiftshader; then
        export VK_ADD_DRIVER_FILES="$swiftshader/icd.json${VK_ADD_DRIVER_FILES:+:$VK_ADD_DRIVER_FILES}"
        return 0
    fi
    return 1
}

# The Khronos validation layer looks at every Vulkan call; what it says goes into a file.
add_validation() {
    local layer="$swiftshader/libVkLayer_khronos_validation.so" folder="$PWD/target/validation"
    validation_log=""
    if [ ! -f "$layer" ] || [ -n "${VK_INSTANCE_LAYERS:-}${VK_LOADER_LAYERS_ENABLE:-}" ]; then
        say "without the validation layer: there is none here, or layers are already chosen"
        return
    fi
    mkdir -p "$folder"
    validation_log="$folder/log.txt"
    : >"$validation_log"
    printf '{"file_format_version": "1.2.0", "layer": {"name": "VK_LAYER_KHRONOS_validation", "type": "GLOBAL",
        "library_path": "%s", "api_version": "1.3.250", "implementation_version": "1", "description": "validation"}}\n' \
        "$layer" >"$folder/VkLayer_khronos_validation.json"
    printf 'khronos_validation.%s\n' "debug_action = VK_DBG_LAYER_ACTION_LOG_MSG" "report_flags = error,warn" \
        "log_filename = $validation_log" "enable_message_limit = false" >"$folder/vk_layer_settings.txt"
    export VK_LAYER_PATH="$folder${VK_LAYER_PATH:+:$VK_LAYER_PATH}" VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation
    export VK_LAYER_SETTINGS_PATH="$folder/vk_layer_settings.txt"
}

# One rule naga falls foul of: a struct or array has a layout in SPIR-V wherever it lies, as it needs one in storage. In
# workgroup memory Vulkan forbids that since SPIR-V 1.5, and drivers do not mind.
known_message=VUID-StandaloneSpirv-None-10684

# Counts what the layer said. It has to be silent but for that.
report_validation() {
    [ -n "$validation_log" ] || return 0
    local all known
    all=$(grep -c '^Validation [A-Z][a-z]*: ' "$validation_log" || true)
    known=$(grep -c "^Validation [A-Z][a-z]*: \[ $known_message \]" "$validation_log" || true)
    say "the validation layer: $((all - known)) message(s), and $known of $known_message, which are naga's layouts"
    [ "$all" -eq "$known" ] && return
    grep '^Validation [A-Z][a-z]*: ' "$validation_log" | grep -v "$known_message" | sort | uniq -c
    grep -A 8 '^Validation [A-Z][a-z]*: ' "$validation_log" | grep -v "$known_message" | head -60
    return 1
}

if ! command -v cargo >/dev/null; then
    say "cargo is missing; install Rust first (rustup)"
    exit 1
fi

setup_began=$SECONDS
# Tests ask for one adapter at least, whatever this machine is.
adapters=1
if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
    install_packages
    if [ -z "$(missing_of "${gpu_packages[@]}")" ] && [ -z "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ]; then
        # Mesa alone is two: lavapipe on Vulkan and llvmpipe on GL, or the GL of a real GPU.
        adapters=2
    fi
    if add_swiftshader; then
        adapters=$((adapters + 1))
    fi
else
    say "there is no apt-get here; nothing is installed, and the tests run on the adapters there are"
fi
if [ -n "${WGPU_BACKEND:-}" ]; then
    # Whoever runs this chose among the back ends: how many adapters are left is theirs to know.
    adapters=1
fi
add_validation
export WGPU_CROSS_ENTROPY_ADAPTERS="${WGPU_CROSS_ENTROPY_ADAPTERS:-$adapters}"

# EGL and the Vulkan loader look for it; some systems set none for a service or in a container.
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then
    XDG_RUNTIME_DIR=$(mktemp -d)
    export XDG_RUNTIME_DIR
    chmod 700 "$XDG_RUNTIME_DIR"
    trap 'rm -rf "$XDG_RUNTIME_DIR"' EXIT
fi
say "setup took $((SECONDS - setup_began)) s; asking for $WGPU_CROSS_ENTROPY_ADAPTERS adapter(s)"

# Release: the oracle's plain loops over whole batches are slow in a debug build.
build_began=$SECONDS
case " $* " in
*" --doc "*) ;; # which cannot be built without being run
*)
    cargo test --release --locked --no-run "$@"
    say "the build took $((SECONDS - build_began)) s"
    ;;
esac

# What ran where: each test of the kernels says which adapters it had. A test goes through all of them, and fails as a
# whole.
ledger=$(mktemp)
output=$(mktemp)
export WGPU_CROSS_ENTROPY_LEDGER="$ledger"
status=0
cargo test --release --locked "$@" 2>&1 | tee "$output" || status=$?
awk -F '\t' -v ledger="$ledger" '
    FILENAME == ledger && $1 == "adapter" && !($2 in adapters) { adapters[$2] = $3; order[++count] = $2 }
    FILENAME == ledger && $1 == "test" { ran[$2] = 1 }
    FILENAME != ledger && /^test .* \.\.\. (ok|FAILED)/ {
        split($0, words, " ")
        if (words[2] in ran) { run++; if (/ \.\.\. ok/) passed++ }
    }
    END {
        if (count == 0) exit
        print "run.sh: adapters, and the tests of the kernels that ran on each"
        for (n = 1; n <= count; n++) printf "    %s: %s: %d run, %d passed\n", order[n], adapters[order[n]], run, passed
    }' "$ledger" "$output"
rm -f "$ledger" "$output"
report_validation || status=1
exit "$status"

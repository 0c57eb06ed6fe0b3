# shellcheck shell=bash
# Sourced by build.sh: what compiles to wasm32-unknown-unknown, and wasm-bindgen. Everything that is fetched lies below
# target/web, and is fetched once.
#
# WEB_TOOLCHAIN=debian, if set, takes the compiler of Debian's unstable suite even where rustup has one.

say() { printf 'web: %s\n' "$*"; }

# Exit status of what cannot be set up on this machine, as automake's tests have it.
readonly CANNOT=77

# Whether rustc knows the target's standard library.
has_wasm() {
    local libraries
    libraries=$(rustc --print target-libdir --target wasm32-unknown-unknown 2>/dev/null) || return 1
    compgen -G "$libraries/libstd-*" >/dev/null
}

# Sets up a compiler: rustup's target, as everybody has it, or else Debian's.
wasm_compiler() {
    if [ "${WEB_TOOLCHAIN:-}" != debian ]; then
        has_wasm && return
        say "rustup target add wasm32-unknown-unknown"
        if command -v rustup >/dev/null && rustup target add wasm32-unknown-unknown && has_wasm; then
            return
        fi
    fi
    debian_compiler
}

# apt-get or apt-cache on the unstable suite alone, with lists of its own: the system's stay as they are.
unstable() {
    local command=$1 apt=$tools/debian/apt
    shift
    # The packages go to a folder of this user.
    "$command" -q -o APT::Sandbox::User=root -o "Dir::State=$apt/state" -o Dir::State::status=/dev/null -o "Dir::Cache=$apt/cache" \
        -o "Dir::Etc::sourcelist=$apt/sources.list" -o "Dir::Etc::sourceparts=$apt/none" "$@"
}

# Packages with all that they need.
closure() {
    unstable apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances "$@" | grep -E '^[a-z0-9]' | sort -u
}

# rustc of Debian's unstable suite, unpacked into a folder of its own, run by that folder's own loader and C library.
debian_compiler() {
    local debian=$tools/debian site linker packages libraries
    if [ ! -x "$debian/bin/rustc" ]; then
        if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
            say "no compiler for wasm32-unknown-unknown: rustup could not add it, and here are no Debian packages"
            return 1
        fi
        say "fetching rustc from Debian's unstable suite"
        rm -rf "$debian"
        mkdir -p "$debian"/{apt/state/lists/partial,apt/cache/archives/partial,apt/none,debs,sysroot,bin}
        # The mirror is the one that this system uses.
        # shellcheck disable=SC2016 # apt-get's own variables
        site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -E '/debian/?$' | head -n 1)
        if [ -z "$site" ]; then
            say "this system has no mirror of Debian's"
            return 1
        fi
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site sid main" >"$debian/apt/sources.list"
        unstable apt-get update >/dev/null || return 1
        # The linker that goes with this standard library.
        linker=$(unstable apt-cache depends libstd-rust-dev-wasm32 | grep -oE 'lld-[0-9]+' | head -n 1)
        packages=$(closure libstd-rust-dev libstd-rust-dev-wasm32 "$linker") || return 1
        # Without what rustc itself depends on: a C compiler is here already.
        # shellcheck disable=SC2086 # a list
        (cd "$debian/debs" && unstable apt-get download rustc $packages >/dev/null) || return 1
        local package
        for package in "$debian"/debs/*.deb; do
            dpkg -x "$package" "$debian/sysroot" || return 1
        done
        rm -rf "$debian/debs"
        libraries=$(find "$debian/sysroot" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
        local program loader
        loader=$(find "$debian/sysroot" -name 'ld-linux-*.so.2' | head -n 1)
        for program in "rustc:usr/bin/rustc" "wasm-ld:usr/bin/wasm-ld-${linker#lld-}"; do
            # lld is told by its own name what it shall link.
            printf '#!/bin/sh\nexec "%s" --library-path "%s" --argv0 "%s" "%s" "$@"\n' "$loader" "$libraries" \
                "${program%%:*}" "$debian/sysroot/${program#*:}" >"$debian/bin/${program%%:*}"
            chmod +x "$debian/bin/${program%%:*}"
        done
        "$debian/bin/rustc" --version || { rm -rf "$debian/bin"; return 1; }
    fi
    export RUSTC="$debian/bin/rustc" CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="$debian/bin/wasm-ld"
    # Two compilers do not share a folder of results.
    export CARGO_TARGET_DIR="$tools/debian-build"
}

# wasm-bindgen, in the version of the lock file: its two halves have to agree.
wasm_bindgen() {
    local version
    version=$(sed -n '/^name = "wasm-bindgen"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)
    for bindgen in wasm-bindgen "$tools/bin/wasm-bindgen"; do
        if [ "$("$bindgen" --version 2>/dev/null)" = "wasm-bindgen $version" ]; then
            return
        fi
    done
    say "building wasm-bindgen $version"
    # It runs for a second: it may be slow if it is soon built.
    local install=(env CARGO_TARGET_DIR="$tools/wasm-bindgen-build" CARGO_PROFILE_RELEASE_OPT_LEVEL=1
        cargo install -q wasm-bindgen-cli --version "$version" --bin wasm-bindgen --root "$tools")
    # Its lock file may name versions that a mirror lacks; then newer ones will do.
    "${install[@]}" --locked || "${install[@]}" || return 1
    rm -rf "$tools/wasm-bindgen-build"
    [ -x "$bindgen" ]
}

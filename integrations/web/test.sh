#!/usr/bin/env bash
# The browser test: builds the page, serves it, and drives it in headless Chromium: the golden cases on WebGPU, the
# demo, the bench, and the page where there is no WebGPU. Ends with `N passed, N failed`.
#
#     integrations/web/test.sh
#
# Arguments go to test.mjs. On Debian it installs Chromium where it is missing; CHROME=path takes another browser;
# playwright-core comes from npm. Exit status 77: a compiler for WebAssembly, a browser or Node could not be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

say() { printf 'web: %s\n' "$*"; }

# Chromium, Chrome or Edge: the first that is here.
find_chrome() {
    local name
    for name in ${CHROME:+"$CHROME"} chromium chromium-browser google-chrome google-chrome-stable microsoft-edge; do
        command -v "$name" && return
    done
    return 1
}

chrome=$(find_chrome) || {
    say "installing chromium"
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then as_root=(sudo -n); fi
    apt_get() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300 "$@" </dev/null >/dev/null; }
    apt_get update || say "apt-get update failed; going on with the lists there are"
    # Fonts, so that a picture of the page has letters.
    apt_get install --no-install-recommends chromium fonts-dejavu-core || true
    chrome=$(find_chrome) || { say "there is no Chromium or Chrome, and none could be installed"; exit 77; }
}
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    say "node and npm are missing; the test drives the browser with them"
    exit 77
fi

./build.sh

node_tools="$(cd ../.. && pwd)/target/web/tools/node"
playwright=1.65.1
if [ "$(node -p "require('$node_tools/node_modules/playwright-core/package.json').version" 2>/dev/null)" != "$playwright" ]; then
    say "fetching playwright-core $playwright"
    mkdir -p "$node_tools"
    npm install --silent --no-audit --no-fund --prefix "$node_tools" "playwright-core@$playwright" || exit 77
fi

CHROME="$chrome" NODE_TOOLS="$node_tools" exec node test.mjs "$@"

# shellcheck shell=bash
# A browser and its driver for the end-to-end tests. Sourced after common.sh.

# find_chromium: $CHROMIUM, or the first browser found under one of its usual names.
find_chromium() { echo "${CHROMIUM:-$(command -v chromium chromium-browser google-chrome | head -n 1)}"; }

need_browser() {
    [ -n "$(find_chromium)" ] || need chromium=chromium
    [ -n "${CHROMEDRIVER:-}" ] || need chromedriver=chromium-driver
}

# The accessibility checker of the end-to-end tests.
AXE_VERSION=4.14.1

# use_axe: installs axe-core and exports its path as DALLE_AXE.
use_axe() {
    need node=nodejs npm=npm
    install_missing
    export DALLE_AXE=$CACHE/axe-$AXE_VERSION/node_modules/axe-core/axe.min.js
    [ -f "$DALLE_AXE" ] || npm install --silent --no-audit --no-fund --prefix "$CACHE/axe-$AXE_VERSION" "axe-core@$AXE_VERSION" >&2
}

# use_browser: exports CHROMIUM and CHROMEDRIVER, unless they are already set.
use_browser() {
    need_browser
    install_missing
    CHROMIUM=$(find_chromium)
    CHROMEDRIVER=${CHROMEDRIVER:-$(command -v chromedriver)}
    export CHROMIUM CHROMEDRIVER
}

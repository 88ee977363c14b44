# shellcheck shell=bash
# A browser and its driver for the end-to-end tests. Sourced after common.sh.

# find_chromium: $CHROMIUM, or the first browser found under one of its usual names.
find_chromium() { echo "${CHROMIUM:-$(command -v chromium chromium-browser google-chrome | head -n 1)}"; }

need_browser() {
    [ -n "$(find_chromium)" ] || need chromium=chromium
    [ -n "${CHROMEDRIVER:-}" ] || need chromedriver=chromium-driver
}

# use_browser: exports CHROMIUM and CHROMEDRIVER, unless they are already set.
use_browser() {
    need_browser
    install_missing
    CHROMIUM=$(find_chromium)
    CHROMEDRIVER=${CHROMEDRIVER:-$(command -v chromedriver)}
    export CHROMIUM CHROMEDRIVER
}

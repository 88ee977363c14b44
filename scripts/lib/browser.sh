# shellcheck shell=bash
# A browser and its driver for the end-to-end tests. Sourced after common.sh.

# use_browser: sets CHROMIUM and CHROMEDRIVER, unless the caller has, to the commands that exist.
use_browser() {
    local name
    if [ -z "${CHROMIUM:-}" ]; then
        for name in chromium chromium-browser google-chrome; do
            CHROMIUM=$(command -v "$name") && break
        done
        if [ -z "$CHROMIUM" ]; then
            need chromium=chromium
            CHROMIUM=$(command -v chromium)
        fi
    fi
    if [ -z "${CHROMEDRIVER:-}" ]; then
        need chromedriver=chromium-driver
        CHROMEDRIVER=$(command -v chromedriver)
    fi
    export CHROMIUM CHROMEDRIVER
}

#!/usr/bin/env bash
# Times decoding of tokens into images here and in ONNX Runtime, natively and in Chromium, in one run.
#
#   benches/decode.sh [native|browser]…      default: both
#
# Both sides decode the same tokens with the same weights, and their images are compared before anything is timed. They take turns;
# the ratio of each round is reported. Writes benches/results/decode-native.json and decode-browser.json. Needs Python 3.10 or newer
# with venv, npm, and Chromium (or CHROMIUM=FILE). Installs ONNX Runtime, for Python and for browsers, into the cache.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib/common.sh
source scripts/lib/common.sh
# shellcheck source=scripts/lib/browser.sh
source scripts/lib/browser.sh
peers=$CACHE/onnxruntime-1

if [ ! -f "$peers/complete" ]; then
    rm -rf "$peers"
    python3 -m venv "$peers/venv"
    "$peers/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 safetensors==0.8.0
    npm install --silent --no-fund --no-audit --ignore-scripts --prefix "$peers/npm" onnxruntime-web@1.30.0
    touch "$peers/complete"
fi
[ $# -gt 0 ] || set -- native browser
for what; do
    case $what in
        native)
            cargo build --quiet --release --locked -p dalle-cli
            "$peers/venv/bin/python" benches/decode/native.py "$CARGO_TARGET_DIR/release/dalle"
            ;;
        browser)
            use_browser
            scripts/build-site "$CACHE/site"
            "$peers/venv/bin/python" benches/decode/browser.py "$CACHE/site" "$peers/npm/node_modules/onnxruntime-web/dist"
            ;;
        *) die "expected native or browser, got $what" ;;
    esac
done

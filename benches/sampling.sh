#!/usr/bin/env bash
# Times sampling here and in PyTorch at the same sizes, on two CPU threads, in turns within one run.
#
#   benches/sampling.sh [--base PROGRAM] [CONFIG…]      default: configs/emoji-128.json configs/bench.json
#
# PyTorch runs the same prior with fixed caches, compiled and not (torch_prior.py), and DALLE-pytorch. --base is the program `dalle`
# of another version, to compare with. Prints a table and writes benches/results/sampling.json. Needs Python 3.10 or newer with
# venv. Installs PyTorch and DALLE-pytorch into a virtual environment in the cache.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${DALLE_CACHE:-$HOME/.cache/dalle}
venv=$cache/venv-dalle-pytorch

if [ ! -f "$venv/complete" ]; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet torch==2.9.0 numpy==2.4.6 einops==0.8.2 axial-positional-embedding==0.3.12 \
        rotary-embedding-torch==0.9.1 packaging==26.3 tqdm==4.70.1 pyyaml==6.0.3 requests==2.34.2 "setuptools<81"
    # Without its dependencies for training, tokenization and image models.
    "$venv/bin/pip" install --quiet --no-deps dalle-pytorch==1.6.6
    touch "$venv/complete"
fi
target=${CARGO_TARGET_DIR:-$cache/target}
CARGO_TARGET_DIR=$target cargo build --quiet --release --locked -p dalle-cli
"$venv/bin/python" benches/sampling.py "$target/release/dalle" "$@"

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
# shellcheck source=benches/pytorch.sh
source benches/pytorch.sh
"$venv/bin/python" benches/sampling.py "$target/release/dalle" "$@"

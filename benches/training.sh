#!/usr/bin/env bash
# Times updates of the prior and of the dVAE here and in PyTorch, on two CPU threads, in turns within one run.
#
#   benches/training.sh [--base PROGRAM] [--rounds COUNT]
#
# An update is losses, gradients, AdamW and the average of the weights, in f32. PyTorch runs the same networks with
# scaled_dot_product_attention under dense masks and its fused AdamW (torch_training.py). --base is the program `dalle` of another
# version, to compare with. Prints a table and writes benches/results/training.json. Needs Python 3.10 or newer with venv. Installs
# PyTorch into the virtual environment of sampling.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=benches/pytorch.sh
source benches/pytorch.sh
"$venv/bin/python" benches/training.py "$target/release/dalle" "$@"

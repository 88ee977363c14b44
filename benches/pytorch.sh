# shellcheck shell=bash
# What sampling.sh and training.sh share: a virtual environment with PyTorch and DALLE-pytorch in the cache, and the program `dalle`.
# Sets venv and target.
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

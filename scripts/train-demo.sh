#!/usr/bin/env bash
# scripts/train-demo.sh: the recipe of the model in assets/models, from npm packages of drawings to a model folder.
# Ctrl-C stops it at any time; the same command resumes.
# Environment variables:
#   DEVICE  cuda:N, wgpu, cpu or libtorch (the CPU with LibTorch's kernels, slower except for CLIP);
#           default: cuda:0 if there is an NVIDIA GPU, otherwise cpu
#   WORK    folder for packages, datasets, checkpoints, loss curves and the model; default: train-demo in the cache

source "$(dirname "$0")/lib/common.sh"
source "$ROOT/scripts/lib/cuda.sh"
source "$ROOT/scripts/lib/libtorch.sh"

WORK=${WORK:-$CACHE/train-demo}
config=configs/drawings-128.json
model=$WORK/drawings-128

if [ -z "${DEVICE:-}" ]; then
    if nvidia-smi >/dev/null 2>&1; then DEVICE=cuda:0; else DEVICE=cpu; fi
fi

# On Ctrl-C `dalle` saves a checkpoint and exits; the script then stops too.
trap 'say; say "interrupted; run the same command to resume"; exit 130' INT TERM

# build: builds `dalle` for $DEVICE. Each backend has its own target folder, so that the other scripts can reuse the default one.
build() {
    local features=()
    need_cargo
    case $DEVICE in
        cpu) ;;
        wgpu) features=(--features wgpu) ;;
        libtorch)
            use_libtorch
            features=(--features tch)
            ;;
        cuda | cuda:*)
            use_cuda
            features=(--features cuda)
            ;;
        *) die "DEVICE: expected cuda:N, wgpu, libtorch or cpu, got $DEVICE" ;;
    esac
    install_missing
    [ "$DEVICE" = cpu ] || export CARGO_TARGET_DIR=$CACHE/target-${DEVICE%%:*}
    cargo build --locked --release --package dalle-cli "${features[@]}"
    PATH=$CARGO_TARGET_DIR/release:$PATH
}

# dataset NAME: builds the dataset $WORK/NAME by the recipe of that name, unless it exists.
dataset() {
    [ -f "$WORK/$1/manifest.json" ] ||
        dalle data build --recipe "configs/data/$1.json" --packages "$WORK/npm" --out "$WORK/$1"
}

say "[1/7] Building dalle for $DEVICE"
build

say "[2/7] Downloading drawings and captions, building the datasets"
need npm=npm
install_missing
dalle data fetch --recipe configs/data/drawings.json --out "$WORK/npm" --yes
# The dVAE and the tokenizer are trained on eight families of drawings, the prior and CLIP on one.
dataset drawings
dataset flat

say "[3/7] Training the caption tokenizer"
dalle tokenizer train --data "$WORK/drawings" --vocab 2048 --out "$WORK/tokenizer.json"

say "[4/7] Training stage 1, the dVAE (loss curve: $WORK/dvae/curve.png)"
dalle dvae train --config "$config" --data "$WORK/drawings" --run "$WORK/dvae" --out "$model" --device "$DEVICE" \
    --steps 24000 --batch 8 --learning-rate 1e-3 --final-learning-rate 2e-5 --learning-rate-updates 24000 \
    --beta-start 15 --beta 6.6 --beta-updates 6000 --tau-updates 12000 --ewma 0.995 --clip-norm 40

say "[5/7] Training stage 2, the prior (loss curve: $WORK/prior/curve.png)"
dalle prior train --model "$model" --data "$WORK/flat" --tokenizer "$WORK/tokenizer.json" --run "$WORK/prior" \
    --device "$DEVICE" --steps 25000 --batch 8 --learning-rate 2e-3 --warmup 100 \
    --weight-decay 0.01 --bpe-dropout 0 --image-noise 1 --ewma 0.995

say "[6/7] Training CLIP, which reranks samples (loss curve: $WORK/clip/curve.png)"
dalle clip train --model "$model" --config "${config%.json}.clip.json" --data "$WORK/flat" --run "$WORK/clip" \
    --device "$DEVICE" --steps 700 --batch 64 --learning-rate 1e-3 --warmup 50 --bpe-dropout 0.1 --reconstructed 0.5 --log-every 10

say "[7/7] Evaluating: how often the nearest drawing is the right one, for one sample and for the best of several"
dalle eval best-of-n --model "$model" --data "$WORK/flat" --n 1,2,4,8 --sheet "$WORK/best-of-n.png" \
    --json "$WORK/best-of-n.json" --report "$WORK/best-of-n.html" --device "$DEVICE"
say "To use the model in the browser: MODEL=$model scripts/demo"

#!/usr/bin/env bash
# Trains tiny priors on drawings by several ranks, and plots the runs: run 12 of docs/experiments.md.
#
#   benches/ranks.sh [shards|powersgd|precision|resume]…
#
# Without names all experiments run: about five minutes of processor time on two cores. Writes docs/images/ranks-*.png and prints a table of
# losses and bytes. All runs of an experiment have the same seed, data and batch.
# Needs MPI's packages (docs/cluster.md) and Python 3. Environment variables:
#   WORK      folder for data, runs and models; default: ranks in the cache. Runs that are there are not repeated.
#   PACKAGES  folder with the packages of configs/data/drawings.json, as `dalle data fetch` makes it; default: downloaded into $WORK

set -euo pipefail
cd "$(dirname "$0")/.."

cache=${DALLE_CACHE:-$HOME/.cache/dalle}
WORK=${WORK:-$cache/ranks}
PACKAGES=${PACKAGES:-$WORK/npm}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
dalle=$CARGO_TARGET_DIR/release/dalle
shipped=assets/models/drawings-128
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
trap 'exit 130' INT TERM

cargo build --locked --release --package dalle-cli --features mpi
mkdir -p "$WORK"

# model NAME LAYERS HEADS HEAD_DIM: a folder with the dVAE of the shipped model, for images of 64×64, and the sizes of a prior to train.
model() {
    mkdir -p "$WORK/$1"
    cp "$shipped"/{encoder,decoder}.safetensors "$WORK/$1/"
    python3 - "$shipped/config.json" "$WORK/$1/config.json" "$@" <<'END'
import json, sys
shipped, out, name, *sizes = sys.argv[1:]
layers, heads, head_dim = map(int, sizes)
config = json.load(open(shipped))
config |= {"name": name, "image_size": 64}
config["prior"] = {"layers": layers, "heads": heads, "head_dim": head_dim, "conv_kernel": 5}
json.dump(config, open(out, "w"))
END
}

# data: the tokens of 974 drawings for training and 47 for validation.
data() {
    [ ! -f "$WORK/tokens/manifest.json" ] || return 0
    [ -d "$PACKAGES" ] || "$dalle" data fetch --recipe configs/data/drawings.json --out "$PACKAGES" --yes
    [ -f "$WORK/things/manifest.json" ] || "$dalle" data build --packages "$PACKAGES" --families fluent-flat --size 64 \
        --groups smileys-emotion,animals-nature,food-drink,travel-places,activities,objects --out "$WORK/things"
    model encoder 4 2 32
    "$dalle" dvae encode --data "$WORK/things" --model "$WORK/encoder" --out "$WORK/tokens" --crops 1
}

# train NAME RANKS MODEL OPTION…: the run $WORK/NAME.
train() {
    local run=$1 ranks=$2 launch=()
    local model=$WORK/$1-model
    [ -d "$model" ] || cp -r "$WORK/$3" "$model"
    shift 3
    [ "$ranks" = 1 ] || launch=(mpirun --oversubscribe -n "$ranks")
    RAYON_NUM_THREADS=1 "${launch[@]}" "$dalle" prior train --model "$model" --data "$WORK/tokens" --tokenizer "$shipped/tokenizer.json" \
        --run "$WORK/$run" --seed 1 --bpe-dropout 0 --ewma 0.98 --overwrite "$@"
}

# The small prior has 4 layers of width 64, so that two ranks of a machine have 32 rows each of most matrices.
small=(--batch 16 --steps 400 --learning-rate 2e-3 --warmup 20 --log-every 10 --validate-every 100)

# curve IMAGE METRICS NAME=RUN…: plots runs.
curve() {
    local image=$1 metrics=$2
    shift 2
    "$dalle" curve --metrics "$metrics" --out "docs/images/$image.png" "$@"
}

# once NAME COMMAND…: runs the command unless the run has ended.
once() {
    local run=$1
    shift
    [ ! -f "$WORK/$run.done" ] || return 0
    echo "run $run" >&2
    "$@"
    touch "$WORK/$run.done"
}

shards() {
    once one train one 1 small "${small[@]}"
    once four train four 4 small "${small[@]}"
    curve ranks-shards 'loss;validation loss' 'one process'="$WORK/one" '4 ranks'="$WORK/four"
}

powersgd() {
    once one train one 1 small "${small[@]}"
    once plain train plain 4 small "${small[@]}" --machine-ranks 2
    for columns in 2 7 16; do
        once "powersgd-$columns" train "powersgd-$columns" 4 small "${small[@]}" --machine-ranks 2 --powersgd-rank "$columns"
    done
    curve ranks-powersgd 'loss;validation loss;compression error;gradient norm' 'uncompressed'="$WORK/plain" \
        '2 columns'="$WORK/powersgd-2" '7 columns'="$WORK/powersgd-7" '16 columns'="$WORK/powersgd-16"
}

precision() {
    local deep=(--batch 4 --steps 300 --learning-rate 1e-2 --warmup 10 --log-every 10)
    model deep 32 2 16
    once deep-f32 train deep-f32 1 deep "${deep[@]}"
    once deep-scales train deep-scales 1 deep "${deep[@]}" --dtype f16
    once deep-one-scale train deep-one-scale 1 deep "${deep[@]}" --dtype f16 --one-gradient-scale
    curve ranks-precision 'loss;greatest gradient scale, log2' 'f32'="$WORK/deep-f32" 'f16, a scale each'="$WORK/deep-scales" \
        'f16, one scale'="$WORK/deep-one-scale"
    for layers in 4 64; do
        model "depth-$layers" "$layers" 2 16
        once "depth-$layers" train "depth-$layers" 1 "depth-$layers" --batch 4 --steps 100 --learning-rate 1e-2 --warmup 10
        cargo bench --locked --package dalle-train --bench scales -- "$WORK/depth-$layers-model" | tee "$WORK/depth-$layers.scales"
    done
}

# killed: 4 ranks, of which one is killed; then 2, which get SIGUSR1; then one process.
killed() {
    local job rank
    train resumed 4 small "${small[@]}" --save-seconds 1 &
    job=$!
    wait_for_update 150
    rank=$(pgrep -f -n -- "--run $WORK/resumed ")
    kill -9 "$rank"
    ! wait "$job" || { echo "the job did not end with its rank" >&2; exit 1; }
    train resumed 2 small "${small[@]}" --save-seconds 1 &
    job=$!
    wait_for_update 280
    rank=$(pgrep -f -n -- "--run $WORK/resumed ")
    kill -USR1 "$rank"
    ! wait "$job" || { echo "the job did not stop" >&2; exit 1; }
    train resumed 1 small "${small[@]}"
}

# wait_for_update STEP: waits until the run `resumed` has logged the update.
wait_for_update() {
    until [ -f "$WORK/resumed/metrics.jsonl" ] &&
        [ "$(tail -n 1 "$WORK/resumed/metrics.jsonl" | sed -E 's/.*"step":([0-9]+).*/\1/')" -ge "$1" ]; do
        sleep 0.1
    done
}

resume() {
    once one train one 1 small "${small[@]}"
    once resumed killed
    curve ranks-resume 'loss;validation loss' 'one process'="$WORK/one" '4 ranks, 2, 1'="$WORK/resumed"
}

model small 4 2 32
data
[ $# -gt 0 ] || set -- shards powersgd precision resume
for experiment; do "$experiment"; done
python3 benches/ranks.py "$WORK"

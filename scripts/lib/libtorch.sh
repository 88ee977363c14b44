# shellcheck shell=bash
# LibTorch's CPU kernels, another backend to train with and to compare with.
# Installed from the Python package torch and the two CUDA libraries that its CPU part links. Sourced after common.sh.

LIBTORCH_VERSION=2.9.0

# use_libtorch: exports the variables needed to build with `--features tch` and to run the result.
use_libtorch() {
    need c++=g++ python3=python3
    install_missing
    locked libtorch install_libtorch
    export LIBTORCH=$CACHE/libtorch
    export LD_LIBRARY_PATH=$LIBTORCH/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}

install_libtorch() {
    local stamp=$CACHE/libtorch/build-version packages=$CACHE/libtorch-packages
    [ "$(cat "$stamp" 2>/dev/null)" = "$LIBTORCH_VERSION" ] && return
    python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip
    say "  downloading LibTorch $LIBTORCH_VERSION (0.9 GB)"
    rm -rf "$packages" "$CACHE/libtorch"
    python3 -m pip install --quiet --no-deps --target "$packages" "torch==$LIBTORCH_VERSION" \
        nvidia-cuda-cupti-cu12==12.8.90 nvidia-cuda-runtime-cu12==12.8.90 ||
        die "pip could not install torch; to train without it, use the portable backend: DEVICE=cpu scripts/train-demo.sh"
    mkdir -p "$CACHE/libtorch/lib"
    ln -s "$packages/torch/include" "$CACHE/libtorch/include"
    ln -s "$packages"/torch/lib/{libtorch_cpu.so,libc10.so,libgomp.so.1} \
        "$packages"/nvidia/cuda_cupti/lib/libcupti.so.12 "$packages"/nvidia/cuda_runtime/lib/libcudart.so.12 \
        "$CACHE/libtorch/lib"
    # The package's own libtorch.so links its CUDA half too; only the CPU half is needed.
    ln -s "$packages/torch/lib/libtorch_cpu.so" "$CACHE/libtorch/lib/libtorch.so"
    echo "$LIBTORCH_VERSION" >"$stamp"
}

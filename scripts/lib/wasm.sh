# shellcheck shell=bash
# The WebAssembly compiler and wasm-bindgen. Sourced after common.sh.
#
# Normally this is rustup's wasm32 target. If rustup cannot download it, Debian's rustc-web (a current Rust packaged for browsers)
# compiles the standard library once into a separate folder and is used as the wasm compiler.

WASM=wasm32-unknown-unknown
WASM_TARGET_DIR=$CACHE/target-wasm
# Environment of every cargo call for wasm, set by use_wasm; empty with rustup.
WASM_ENV=()
# The compiler to use, rustup or debian. DALLE_WASM=debian forces the second, to test it.
WASM_WAY=${DALLE_WASM:-}

# need_wasm: chooses the compiler.
need_wasm() {
    if [ -z "$WASM_WAY" ]; then
        if rustup_wasm; then WASM_WAY=rustup; else WASM_WAY=debian; fi
    fi
    [ "$WASM_WAY" = rustup ] || need_packages rustc-web rust-web-src rust-web-clippy
}

# use_wasm: makes wasm_cargo and wasm_clippy work.
use_wasm() {
    local sysroot
    need_wasm
    install_missing
    [ "$WASM_WAY" != rustup ] || return 0
    sysroot=$CACHE/wasm-sysroot-$(/usr/bin/rustc --version | cut -d' ' -f2)
    [ -d "$sysroot" ] || locked setup build_wasm_sysroot "$sysroot"
    WASM_ENV=(
        RUSTC="$sysroot/bin/rustc"
        SYSROOT="$sysroot"
        CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="$(echo "$(rustc --print sysroot)"/lib/rustlib/*/bin/rust-lld)"
    )
}

# rustup_wasm: succeeds if rustup's compiler has the target, installing it if necessary.
rustup_wasm() {
    compgen -G "$(rustc --print sysroot)/lib/rustlib/$WASM/lib/libstd-*.rlib" >/dev/null && return
    # If Debian's compiler was needed before, do not wait for rustup again.
    compgen -G "$CACHE/wasm-sysroot-*" >/dev/null && return 1
    command -v rustup >/dev/null || return 1
    say "  downloading Rust's $WASM target"
    # The limit is for a hanging connection; it leaves time for a slow one.
    locked setup timeout 600 rustup target add "$WASM" >&2 && return
    say "  rustup could not download it: using Debian's rustc-web instead"
    return 1
}

# build_wasm_sysroot FOLDER: compiles the standard library for wasm, and writes a rustc wrapper that uses it along with the host's.
build_wasm_sysroot() {
    local sysroot=$1 work=$CACHE/wasm-sysroot.tmp host
    [ ! -d "$sysroot" ] || return 0
    say "  compiling Rust's standard library for wasm, once (about a minute)"
    rm -rf "$CACHE"/wasm-sysroot*
    mkdir -p "$work"/{bin,crate/src,"lib/rustlib/$WASM/lib"}
    printf '[package]\nname = "std-for-wasm"\nedition = "2024"\n[workspace]\n' >"$work/crate/Cargo.toml"
    echo '#![no_std]' >"$work/crate/src/lib.rs"
    # Link-time optimisation of the page needs the standard library's bitcode.
    (cd "$work/crate" && RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cembed-bitcode=yes \
        CARGO_TARGET_DIR=$work/crate/target cargo build --quiet --release --target "$WASM" \
        -Zbuild-std=std,panic_abort,panic_unwind)
    rm "$work/crate/target/$WASM"/release/deps/libstd_for_wasm*.rlib
    cp "$work/crate/target/$WASM"/release/deps/*.rlib "$work/lib/rustlib/$WASM/lib/"
    host=$(/usr/bin/rustc --version --verbose | sed -n 's/^host: //p')
    ln -s "/usr/lib/rustlib/$host" "$work/lib/rustlib/$host"
    # shellcheck disable=SC2016 # expanded by the wrapper, not here
    printf '#!/bin/sh\nexec /usr/bin/rustc --sysroot "${0%%/bin/rustc}" "$@"\n' >"$work/bin/rustc"
    chmod +x "$work/bin/rustc"
    rm -rf "$work/crate"
    # cargo does not notice that the compiler's standard library has changed.
    rm -rf "${WASM_TARGET_DIR:?}/$WASM"
    mv "$work" "$sysroot"
}

wasm_cargo() {
    env CARGO_TARGET_DIR="$WASM_TARGET_DIR" "${WASM_ENV[@]}" cargo "$@"
}

# wasm_clippy ARGUMENT…: runs the clippy that matches the wasm compiler.
wasm_clippy() {
    if [ ${#WASM_ENV[@]} -eq 0 ]; then
        wasm_cargo clippy "$@" -- --deny warnings
    else
        env CARGO_TARGET_DIR="$WASM_TARGET_DIR" "${WASM_ENV[@]}" /usr/bin/cargo-clippy clippy "$@" -- --deny warnings
    fi
}

# use_wasm_tools: sets WASM_BINDGEN to a wasm-bindgen of the version in Cargo.lock.
use_wasm_tools() {
    local version
    version=$(lock_version wasm-bindgen)
    WASM_BINDGEN=$CACHE/tools/wasm-bindgen-$version/bin/wasm-bindgen
    [ -x "$WASM_BINDGEN" ] || locked setup install_wasm_bindgen "$version"
}

# Without --locked, which fails if a registry mirror lags behind the tool's lock file.
install_wasm_bindgen() {
    [ ! -x "$WASM_BINDGEN" ] || return 0
    say "  compiling wasm-bindgen $1, once (about 3 minutes)"
    cargo install --quiet wasm-bindgen-cli --version "$1" --root "$CACHE/tools/wasm-bindgen-$1" \
        --target-dir "$CACHE/tools/build"
    rm -rf "$CACHE/tools/build"
}

# shellcheck shell=bash
# shellcheck disable=SC2034 # variables set here are used by the scripts that source this file
# Shared by all scripts: paths, messages, locks, and installing missing programs. Sourced, never run. Downloads and build output
# are in $CACHE, outside the checkout.

set -euo pipefail

CALLER=$PWD
# from_caller PATH: makes a path absolute, relative to the caller's working directory. Scripts themselves work in $ROOT.
from_caller() { (cd "$CALLER" && realpath --canonicalize-missing --no-symlinks -- "$1"); }

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
SELF=$(from_caller "$0")
# Made absolute in the environment, so that scripts called by this one see absolute paths too.
for name in MODEL WORK DALLE_CACHE; do
    [ -z "${!name:-}" ] || printf -v "$name" %s "$(from_caller "${!name}")"
done
CACHE=${DALLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dalle}
mkdir -p "$CACHE"
cd "$ROOT"
# Demo, tests and training share a target folder, so that Burn is compiled once.
export CARGO_TARGET_DIR=$CACHE/target

# Cargo compares the age of a crate's files with that of its last build, and takes what another checkout built later for this one's.
# So after a change of the checkout, its files are made new: its own crates are compiled again, their dependencies are kept.
mkdir -p "$CACHE"/target{,-wasm}
for folder in "$CACHE"/target{,-*}; do
    if [ "$(cat "$folder/checkout" 2>/dev/null)" != "$ROOT" ]; then
        find Cargo.toml Cargo.lock assets backend configs e2e frontend model shared train -type f -exec touch --no-create {} + || true
        printf %s "$ROOT" >"$folder/checkout"
    fi
done

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

# locked NAME COMMAND…: runs the command while holding the lock NAME, so that no other script does the same work.
locked() {
    local name=$1
    shift
    (
        exec 9>"$CACHE/$name.lock"
        if ! flock --nonblock 9; then
            say "  waiting for another script that holds the lock \"$name\""
            flock 9
        fi
        "$@" 9>&-
    )
}

# lock_version CRATE: the crate's version in Cargo.lock.
lock_version() {
    awk -v line="name = \"$1\"" '$0 == line { getline; gsub(/version = |"/, ""); print; exit }' "$ROOT/Cargo.lock"
}

# Missing Debian packages. They are collected, so that a user who may not install them sees the complete list.
MISSING=()

# need COMMAND=PACKAGE…: if a command does not exist, install_missing will install its Debian package.
need() {
    local pair
    for pair; do
        command -v "${pair%%=*}" >/dev/null || MISSING+=("${pair#*=}")
    done
}

# need_packages PACKAGE…: the same for packages that are not a single command.
need_packages() {
    local package
    for package; do
        dpkg-query --show --showformat '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || MISSING+=("$package")
    done
}

install_missing() {
    [ ${#MISSING[@]} -eq 0 ] || install_packages "${MISSING[@]}"
    MISSING=()
}

install_packages() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        die "these packages are missing: $*
On Debian, run this as root and try again:
    apt-get install --no-install-recommends $*
On another system, install the programs of these packages with its package manager."
    fi
    say "  installing Debian packages: $*"
    locked apt apt_install "$@"
}

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; } >"$CACHE/apt.txt" 2>&1; then
        tail -n 20 "$CACHE/apt.txt" >&2
        die "apt-get could not install: $* (full output: $CACHE/apt.txt)"
    fi
}

# need_cargo: the tools that every build needs.
need_cargo() {
    command -v cargo >/dev/null || die "cargo was not found. Install the stable Rust toolchain with rustup and try again."
    need cc=gcc flock=util-linux
}

# shipped_model: the model folder to serve and test: $MODEL, or the only one in assets/models.
shipped_model() {
    local models=("${MODEL:-}")
    [ -n "${MODEL:-}" ] || models=("$ROOT"/assets/models/*/)
    [ ${#models[@]} = 1 ] || die "assets/models contains several models (${models[*]}): choose one with MODEL=FOLDER"
    [ -f "${models[0]}/config.json" ] || die "no model in ${models[0]}: expected a folder with a config.json"
    echo "${models[0]%/}"
}

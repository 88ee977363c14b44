# shellcheck shell=bash
# shellcheck disable=SC2034 # what is only set here is used where this is sourced
# What every script starts with: where things lie, how to speak, how to take turns, how to get a missing program.
# Sourced, never run. Everything that is fetched or built lies in $CACHE, outside the checkout.

set -euo pipefail

CALLER=$PWD
# from_caller PATH: absolute. What the caller gives is meant from where the caller stands; scripts work in $ROOT.
from_caller() { (cd "$CALLER" && realpath --canonicalize-missing --no-symlinks -- "$1"); }

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
SELF=$(from_caller "$0")
# Changed in the environment itself: scripts that this one calls find them absolute.
for name in MODEL WORK DALLE_CACHE; do
    [ -z "${!name:-}" ] || printf -v "$name" %s "$(from_caller "${!name}")"
done
CACHE=${DALLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dalle}
mkdir -p "$CACHE"
cd "$ROOT"
# One target folder for demo, tests and training, so that Burn is compiled once.
export CARGO_TARGET_DIR=$CACHE/target

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

# locked NAME COMMAND…: runs the command while no other script does anything under the same name.
locked() {
    local name=$1
    shift
    (
        exec 9>"$CACHE/$name.lock"
        if ! flock --nonblock 9; then
            say "  waiting: another script is busy with \"$name\""
            flock 9
        fi
        "$@" 9>&-
    )
}

# lock_version CRATE: the version that Cargo.lock has chosen.
lock_version() {
    awk -v line="name = \"$1\"" '$0 == line { getline; gsub(/version = |"/, ""); print; exit }' "$ROOT/Cargo.lock"
}

# Debian's packages that are missing. They are collected, so that who may not install them is told of all at once.
MISSING=()

# need COMMAND=PACKAGE…: every command must exist; where one does not, install_missing is to install Debian's package.
need() {
    local pair
    for pair; do
        command -v "${pair%%=*}" >/dev/null || MISSING+=("${pair#*=}")
    done
}

# need_packages PACKAGE…: the same for packages that are more than one command.
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
        die "not installed: $*
On Debian, run this as root and start again:
    apt-get install --no-install-recommends $*
Elsewhere, install the programs of these packages by your system's own means."
    fi
    say "  installing Debian packages: $*"
    locked apt apt_install "$@"
}

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; } >"$CACHE/apt.txt" 2>&1; then
        tail -n 20 "$CACHE/apt.txt" >&2
        die "apt-get could not install: $* (all of its output: $CACHE/apt.txt)"
    fi
}

# need_cargo: what every build needs.
need_cargo() {
    command -v cargo >/dev/null || die "cargo was not found. Install Rust's stable toolchain with rustup and start again."
    need cc=gcc flock=util-linux
}

# shipped_model: the model folder to serve and to test: $MODEL, or the only one in assets/models.
shipped_model() {
    local models=("${MODEL:-}")
    [ -n "${MODEL:-}" ] || models=("$ROOT"/assets/models/*/)
    [ ${#models[@]} = 1 ] || die "assets/models holds several models (${models[*]}): choose one with MODEL=FOLDER"
    [ -f "${models[0]}/config.json" ] || die "no model in ${models[0]}: expected a folder with config.json"
    echo "${models[0]%/}"
}

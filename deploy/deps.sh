#!/bin/sh
# deps.sh - installs what building, testing and the demo need and this machine lacks: Debian
# packages by apt (sudo when not root) and npm packages by their lock files. Quiet when all is there.
# `deps.sh bench` installs instead what the benchmarks compare with.
set -eu
cd "$(dirname "$0")/.."

packages="gcc g++ clang make pkg-config libc6-dev protobuf-c-compiler protobuf-compiler libprotobuf-c-dev
libnats-dev libh2o-evloop-dev libnghttp2-dev libhiredis-dev libsodium-dev libssl-dev liblmdb-dev
libjansson-dev libpcre2-dev libutf8proc-dev libdivsufsort-dev libzstd-dev libcurl4-openssl-dev check libsubunit-dev
gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
nats-server redis-server faketime golang-go golang-golang-x-mod-dev curl openssl python3-grpcio
bible-kjv dict-jargon wordnet-base"
folders="deploy/text tests/e2e"
npm_install="npm ci"
if [ "${1:-}" = bench ]; then
    packages="libopenblas-dev libopenblas0 python3-torch postgresql"
    folders=tests/bench
    # Optional packages are llama.cpp for other machines, 600 MB; `npm ci` insists on their entries.
    npm_install="npm install --no-save --omit=optional"
fi

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

missing=
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
command -v node >/dev/null 2>&1 || missing="$missing nodejs"
command -v npm >/dev/null 2>&1 || missing="$missing npm"
if [ -n "$missing" ]; then
    echo "installing:$missing"
    as_root apt-get update -qq
    # shellcheck disable=SC2086 # the list is words on purpose
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

for folder in $folders; do
    [ -e "$folder/package.json" ] || continue
    if [ ! -e "$folder/node_modules/.package-lock.json" ] ||
        [ "$folder/package-lock.json" -nt "$folder/node_modules/.package-lock.json" ]; then
        echo "installing npm packages in $folder"
        (cd "$folder" && $npm_install --ignore-scripts --no-audit --no-fund --loglevel=error)
        touch "$folder/node_modules/.package-lock.json"
    fi
done

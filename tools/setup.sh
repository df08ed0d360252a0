#!/usr/bin/env bash
# Installs what building and testing mirrorsd needs and is not here yet. Debian 12 is what it is tried on;
# Ubuntu 24.04 carries the same packages and is served on a best-effort basis. Idempotent: a second run
# only looks. Needs root (or sudo) only when something is missing.
set -euo pipefail

packages=(
  build-essential cmake ninja-build ccache pkg-config git python3 ca-certificates
  libgrpc++-dev protobuf-compiler-grpc libprotobuf-dev protobuf-compiler libabsl-dev
  prometheus-cpp-dev nlohmann-json3-dev libyaml-cpp-dev libcli11-dev libspdlog-dev libhwy-dev
)
test_packages=(libgtest-dev libgmock-dev libbenchmark-dev clang-16 libclang-rt-16-dev prometheus
  iproute2 nftables)

. /etc/os-release 2>/dev/null || ID=unknown
case "${ID:-}:${VERSION_ID:-}" in
  debian:12) packages+=(libboost1.81-dev) ;;
  ubuntu:24.04)
    packages+=(libboost1.83-dev)
    echo "setup: Ubuntu 24.04 is served on a best-effort basis; Debian 12 is what mirrorsd is tested on" >&2 ;;
  *)
    packages+=(libboost-dev)
    echo "setup: ${PRETTY_NAME:-this system} is not tried; Debian 12 is. Going on with its packages" >&2 ;;
esac
[ "${1:-}" = "--build-only" ] || packages+=("${test_packages[@]}")

cargo_is_new_enough() {  # the crates need cargo >= 1.85
  local version
  version=$("$1" --version 2>/dev/null | sed -nE 's/^cargo ([0-9]+)\.([0-9]+).*/\1 \2/p') || return 1
  [ -n "$version" ] || return 1
  set -- $version
  [ "$1" -gt 1 ] || { [ "$1" -eq 1 ] && [ "$2" -ge 85 ]; }
}

have_cargo() {
  local candidate
  for candidate in cargo "$HOME/.cargo/bin/cargo" /usr/bin/cargo; do
    command -v "$candidate" >/dev/null 2>&1 && cargo_is_new_enough "$candidate" && return 0
  done
  return 1
}

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
    missing+=("$package")
done
have_cargo || missing+=(cargo-web rustc-web)
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "setup: these packages are missing and this is not root (no sudo either): ${missing[*]}" >&2
    exit 1
  }
  as_root=(sudo)
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${as_root[@]}" apt-get update -qq &&
       "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "setup: apt-get failed; install by hand: ${missing[*]}" >&2
  exit 1
fi
have_cargo || {
  echo "setup: no cargo >= 1.85 was found and the package cargo-web did not bring one." >&2
  echo "setup: install Rust from https://rustup.rs, or put a newer cargo on the PATH, and try again." >&2
  exit 1
}

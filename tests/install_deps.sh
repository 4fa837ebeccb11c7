#!/usr/bin/env bash
# Installs the Debian packages that building and testing need; does nothing when all are there.
set -euo pipefail
packages=(git cmake ninja-build g++ pkg-config ccache libpmem2-dev liburing-dev libfuse3-dev fuse3 libboost-dev
  libcli11-dev libtomlplusplus-dev nlohmann-json3-dev libspdlog-dev libisal-dev libabsl-dev libblkid-dev
  libcap-ng-dev libmount-dev libncurses-dev uuid-dev libsystemd-dev dpkg-dev scdoc man-db libgtest-dev libgmock-dev
  libbenchmark-dev fio xfsprogs btrfs-progs e2fsprogs jq util-linux python3 attr tmux
  curl prometheus chromium chromium-driver fonts-dejavu-core)
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -qy --no-install-recommends "${missing[@]}"

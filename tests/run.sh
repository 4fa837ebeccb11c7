#!/usr/bin/env bash
# Installs what is needed, builds, runs all tests, and closes with ctest's summary.
# usage: tests/run.sh [--asan|--tsan] [ctest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
preset=release
case "${1:-}" in
  --asan) preset=asan; shift ;;
  --tsan) preset=tsan; shift ;;
esac
tests/install_deps.sh
cmake --preset "$preset"
cmake --build --preset "$preset"
ctest --preset "$preset" "$@"

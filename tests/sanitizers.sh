#!/usr/bin/env bash
# The engine's tests under the thread sanitizer, and under the address and undefined-behaviour ones: unit tests of the
# engine's layers, races, the model with few steps, many threads with few operations, some seeds of the simulation.
# Builds what it needs, in build/tsan and build/asan. On two idle cores: some 5 minutes to build each, 3 to run it.
# usage: tests/sanitizers.sh [tsan|asan]...
set -euo pipefail
cd "$(dirname "$0")/.."
export PCACHE_MODEL_STEPS=${PCACHE_MODEL_STEPS:-150} PCACHE_STRESS_OPS=${PCACHE_STRESS_OPS:-500}
export PCACHE_SIMULATION_SEEDS=${PCACHE_SIMULATION_SEEDS:-20}
tests=(unit_base unit_index unit_segment unit_log unit_cache races model simulation)
[ $# -gt 0 ] || set -- tsan asan
for preset in "$@"; do
  cmake --preset "$preset"
  cmake --build --preset "$preset" --target "${tests[@]}"
  for test in "${tests[@]}"; do
    echo "== $preset $test"
    "build/$preset/tests/$test" --gtest_brief=1
  done
done

#!/usr/bin/env bash
# The engine's tests under the thread sanitizer, and under the address and undefined-behaviour ones: unit tests of the
# engine's layers, races, the model with few steps, many threads with few operations; under the first also what serves
# the control socket and the mount, under the others some seeds of the simulation.
# Builds what it needs, in build/tsan and build/asan. On two idle cores: some 5 minutes to build each, 3 to run it.
# The simulation is one thread, in which what other threads would do is called while a lock is held: there the thread
# sanitizer has nothing to find, and sees orders of locks that cannot be.
# usage: tests/sanitizers.sh [tsan|asan]...
set -euo pipefail
cd "$(dirname "$0")/.."
export PCACHE_MODEL_STEPS=${PCACHE_MODEL_STEPS:-150} PCACHE_STRESS_OPS=${PCACHE_STRESS_OPS:-500}
export PCACHE_SIMULATION_SEEDS=${PCACHE_SIMULATION_SEEDS:-20}
threaded=(unit_base unit_index unit_segment unit_log unit_cache races model)
[ $# -gt 0 ] || set -- tsan asan
for preset in "$@"; do
  tests=("${threaded[@]}")
  if [ "$preset" = tsan ]; then tests+=(unit_control unit_mount); else tests+=(simulation); fi
  cmake --preset "$preset"
  cmake --build --preset "$preset" --target "${tests[@]}"
  for test in "${tests[@]}"; do
    echo "== $preset $test"
    "build/$preset/tests/$test" --gtest_brief=1
  done
done

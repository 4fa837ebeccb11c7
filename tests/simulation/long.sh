#!/usr/bin/env bash
# 5000 seeds of the simulation with more than 200 busy hours in all. Prints the totals of each process, and fails if a
# seed does.
# usage: [PCACHE_SIMULATION_FIRST=SEED] tests/simulation/long.sh [SEEDS [BUSY_SECONDS [PROCESSES]]]
set -euo pipefail
cd "$(dirname "$0")/../.."
seeds=${1:-5000} busy=${2:-150} processes=${3:-2}
first=${PCACHE_SIMULATION_FIRST:-10000}
simulation=${SIMULATION:-build/release/tests/simulation}
each=$(((seeds + processes - 1) / processes))
pids=()
for ((i = 0; i < processes; ++i)); do
  PCACHE_SIMULATION_FIRST=$((first + i * each)) PCACHE_SIMULATION_SEEDS=$each PCACHE_SIMULATION_BUSY=$busy \
    "$simulation" --gtest_brief=1 --gtest_filter='*OfEverySeed*' &
  pids+=($!)
done
status=0
for pid in "${pids[@]}"; do wait "$pid" || status=1; done
exit $status

#!/usr/bin/env bash
# The long run: for ext4 and xfs all flushes, at least 500, and 500 states in between with the cache thrown away; 30
# kills each with the cache kept. Takes about ten minutes. usage: long.sh [SEED]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
seed=${1:-$RANDOM}
for filesystem in ext4 xfs; do
  bash "$here/witness.sh" -f $filesystem -p 500+ -b 1000 -o 800 -s "$seed"
done
bash "$here/kept.sh" -k 30 -o 400 -s "$seed"

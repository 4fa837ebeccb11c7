#!/usr/bin/env bash
# Shows that the tests are not blind: takes one rule out of the engine at a time (a flush, a fence, a checksum, an order)
# and runs the tests until one notices. Prints the table of docs/testing.md; fails if nothing noticed.
# usage: tests/mutation.sh [--only NAME]... [--list]   about an hour on two cores, with all mutations
set -euo pipefail
cd "$(dirname "$0")/.."
tests/install_deps.sh
exec python3 tests/mutation/mutate.py "$@"

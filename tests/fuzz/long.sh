#!/usr/bin/env bash
# The long run of the fuzz targets: 2,000,000 executions under the address and undefined-behaviour sanitizers, most of
# them of the targets whose inputs are done soonest. As tests/fuzz/run.sh otherwise; what it finds that covers more is
# where the next run goes on. On two idle cores about 20 minutes.
set -euo pipefail
runs=(media=80000 options=300000 tables=110000 log=110000 fuse=700000 protocol=700000)
exec "$(dirname "$0")/run.sh" 60 "${runs[@]}"

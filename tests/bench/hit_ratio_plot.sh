#!/usr/bin/env bash
# Runs hit_ratio_bench for more cache sizes and draws docs/hit_ratio.svg. Needs gnuplot (Debian: gnuplot-nox), which
# building and testing do not. A few minutes, and 1.2 GiB of memory.
# usage: tests/bench/hit_ratio_plot.sh [MILLIONS_OF_ACCESSES]
set -euo pipefail
cd "$(dirname "$0")/../.."
bench=${HIT_RATIO_BENCH:-build/release/tests/bench/hit_ratio_bench}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$bench" "${1:-6}" 0.5 1 2 5 10 20 > "$work/all"
for trace in zipf zipf_scanned; do
  for policy in fifo lru engine; do
    awk -v t="$trace" -v p="$policy" '$1 == t && $4 == p && $5 == "hit_ratio" { print $2, $6 }' "$work/all" \
      > "$work/$trace.$policy"
    [ "$(wc -l < "$work/$trace.$policy")" -eq 6 ] || { echo "no figures for $trace, $policy" >&2; exit 1; }
  done
done
cd "$work"
gnuplot <<'PLOT'
set terminal svg size 900,380 font "sans,12" background rgb "white"
set output "hit_ratio.svg"
set multiplot layout 1,2
set logscale x 10
set xtics (0.5, 1, 2, 5, 10, 20)
set xlabel "cache, % of the device"
set ylabel "hit ratio of the Zipf reads"
set yrange [0.45:0.9]
set grid
set key bottom right
do for [trace in "zipf zipf_scanned"] {
  set title (trace eq "zipf" ? "Zipf(0.99)" : "Zipf(0.99) beside scans")
  plot trace.".engine" with linespoints lw 2 pt 7 title "pcachefs", \
       trace.".lru" with linespoints lw 2 pt 5 title "exact LRU", \
       trace.".fifo" with linespoints lw 2 pt 9 title "strict FIFO"
}
unset multiplot
PLOT
cd - > /dev/null
cp "$work/hit_ratio.svg" docs/hit_ratio.svg
cat "$work/all"

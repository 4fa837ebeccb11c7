#!/usr/bin/env bash
# Draws docs/pressure.svg from what pressure_bench printed for one write in flight and for 32.
# usage: pressure_plot.sh DEPTH1.csv DEPTH32.csv    (gnuplot: Debian's gnuplot-nox)
set -euo pipefail
out=$(cd "$(dirname "$0")/../.." && pwd)/docs/pressure.svg
gnuplot <<PLOT
set terminal svg size 900,640 font "sans-serif,12" background "white"
set output "$out"
set datafile separator ","
set multiplot layout 2,1
set key outside right top
set xlabel "seconds"
set ylabel "writes of 4 KiB a second"
set yrange [0:*]
plot "$1" using 1:2 with linespoints lw 2 pt 7 ps 0.4 title "1 in flight", \
     "$2" using 1:2 with linespoints lw 2 pt 7 ps 0.4 title "32 in flight"
set ylabel "latency in microseconds"
set logscale y
set yrange [0.3:100000]
plot "$1" using 1:3 with lines lw 1 dt 2 lc 1 title "1 in flight: median", \
     "$1" using 1:4 with lines lw 2 lc 1 title "99 %", \
     "$1" using 1:5 with points pt 1 lc 1 title "longest", \
     "$2" using 1:3 with lines lw 1 dt 2 lc 2 title "32 in flight: median", \
     "$2" using 1:4 with lines lw 2 lc 2 title "99 %", \
     "$2" using 1:5 with points pt 1 lc 2 title "longest"
PLOT
echo "$out"

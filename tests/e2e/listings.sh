#!/usr/bin/env bash
# How results are printed: for people, for scripts, for programs; quietly, in colour, and what is asked beforehand.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/bad_input.bash"

simple_setup 64M -o dirty_max_age=86400000
truncate -s 64M "$T/backing2"
p add vm "$T/backing2"
dd if=/dev/urandom of="$MNT/dev" bs=4K count=256 oflag=direct conv=notrunc status=none

say "ls is a tree; flat for scripts; nested for programs"
p ls >"$T/out"
grep -Eq '^NAME +STATE +SIZE +USED +DIRTY +MODE +PATH$' "$T/out" || wrong "no heading: $(cat "$T/out")"
grep -Eq '^cache +running +64 MiB .* 1 MiB +- +'"$SHM/cache" "$T/out" || wrong "no cache device: $(cat "$T/out")"
grep -q '^├─ dev ' "$T/out" && grep -q '^└─ vm ' "$T/out" || wrong "no tree: $(cat "$T/out")"
p ls -H -p >"$T/out"
check "$(printf 'cache/dev\trunning\t67108864')" "$(sed -n 2p "$T/out" | cut -f 1-3)" "a line for scripts"
check 1048576 "$(sed -n 2p "$T/out" | cut -f 5)" "dirty bytes for scripts"
check 3 "$(wc -l <"$T/out")" "lines for scripts"
p ls --json | jq -e '.schema.major == 1 and .cache_devs[0].logic_devs[1].name == "vm"' >/dev/null || wrong "no JSON of ls"

say "status, get, stats, events and jobs for scripts"
p drain vm
check 1048576 "$(p status -H | awk -F '\t' '$1 == "cache/dev" && $2 == "dirty_bytes" { print $3 }')" "a field of status"
p status -p | grep -q 'dirty 1048576, ' || wrong "status -p has units: $(p status -p)"
check "$(printf 'dirty_max_age\t86400000\tmount')" "$(p -H get dev dirty_max_age)" "a setting"
check "$(p get dev --json | jq ".settings | length")" "$(p get dev | tail -n +2 | wc -l)" "settings"
p stats dev -H | grep -Eq $'^writes\t[1-9]' || wrong "no counter: $(p stats dev -H)"
p stats dev -H | grep -Eq $'^write\\.p99_ns\t[0-9]+$' || wrong "no latency"
p stats dev -H --hist | grep -Eq $'^write\\.below_ns\\.[0-9]+\t[1-9]' || wrong "no histogram"
p stats dev --hist | grep -q 'below .*#' || wrong "no histogram for people"
p jobs -H | grep -q $'^1\tdrain\tvm\tdone\t' || wrong "no job: $(p jobs -H)"
p events -H | grep -q $'\tlogic_dev_added\tvm\t' || wrong "no event: $(p events -H)"
p events | head -1 | grep -Eq '^NUMBER +TIME +SEVERITY +KIND +OBJECT +MESSAGE$' || wrong "no heading of events"
p events -H -p | cut -f 2 | grep -Eqv '^[0-9]{13}$' && wrong "times are no numbers: $(p events -H -p)"

say "stats every so many seconds, and anew after a reset"
(for _ in 1 2 3 4 5 6 7 8; do
  dd if="$T/backing" of="$MNT/dev" bs=64K count=16 oflag=direct conv=notrunc status=none
  sleep 0.2
done) &
p stats dev -i 0.5 2 >"$T/out"
check 3 "$(wc -l <"$T/out")" "a heading and two lines"
awk 'NR > 1 && $2 > 0 { found = 1 } END { exit !found }' "$T/out" || wrong "no writes: $(cat "$T/out")"
p stats dev -i 0.5 1 --json | jq -se 'length == 1 and .[0].write_bytes_per_second > 0' >/dev/null || wrong "no JSON"
wait
p stats dev --reset -H | grep -Eq $'^writes\t[1-9]' || wrong "what is reset is printed first"
check 0 "$(p stats dev -H | awk '$1 == "writes" { print $2 }')" "writes after a reset"
expect_error 2 "interval" p stats dev -i never
expect_error 2 "how many" p stats dev -i 1 0
expect_error 3 nosuch p stats nosuch -i 1 1

say "events to come"
timeout 300 "$PCACHEFS" events --follow -H >"$T/followed" &
follower=$!
truncate -s 16M "$T/third"
p add third "$T/third"
for _ in $(seq 300); do grep -q $'\tlogic_dev_added\tthird\t' "$T/followed" && break; sleep 0.1; done
kill "$follower"
wait "$follower" || true
grep -q $'\tlogic_dev_added\tthird\t' "$T/followed" || wrong "what came was not followed: $(cat "$T/followed")"

say "quietly"
for command in "ls" "status" "version" "get dev" "drain dev" "-q ls"; do
  # shellcheck disable=SC2086
  p $command -q >"$T/out" 2>"$T/err"
  [ ! -s "$T/out" ] && [ ! -s "$T/err" ] || wrong "$command -q prints: $(cat "$T/out" "$T/err")"
done
expect_error 3 nosuch p -q get nosuch

say "status for scripts has no empty column, and sizes have no blanks"
p status -H >"$T/out"
awk -F'\t' 'NF != 3 || $3 == "" { exit 1 }' "$T/out" || wrong "status -H has an empty column: $(cat "$T/out")"
grep -q $'\tdetail\t-$' "$T/out" || wrong "status -H has no detail: $(cat "$T/out")"
p ls -H >"$T/out"
grep -Eq $'\t[0-9.]+[KMG]\t' "$T/out" || wrong "ls -H: $(cat "$T/out")"
if grep -q ' [KM]iB' "$T/out"; then wrong "ls -H: $(cat "$T/out")"; fi

say "the version"
p version | grep -Eq '^pcachefs [0-9]+\.[0-9]+\.[0-9]+$' || wrong "version says: $(p version)"
p version --json | jq -e '.version and .schema.major == 1' >/dev/null || wrong "no JSON of version"

say "on a terminal: colours, unless NO_COLOR is set, and questions, unless --yes is given"
command -v script >/dev/null || skip "no script(1) for a terminal"
on_terminal() { TERM=xterm script -qec "$(printf '%q ' "$PCACHEFS" "$@")" /dev/null; }
escape=$'\e['
on_terminal ls </dev/null | grep -qF "$escape" || wrong "no colour on a terminal"
if NO_COLOR=1 on_terminal ls </dev/null | grep -qF "$escape"; then wrong "colour in spite of NO_COLOR"; fi
if on_terminal ls -H </dev/null | grep -qF "$escape"; then wrong "colour in what is for scripts"; fi
if p ls | grep -qF "$escape"; then wrong "colour where there is no terminal"; fi
echo n | on_terminal remove third --discard-dirty >"$T/out" && wrong "it was removed in spite of no"
grep -q "is thrown away. Go on" "$T/out" && grep -q "nothing was changed; --yes" "$T/out" || wrong "$(cat "$T/out")"
[ -e "$MNT/third" ] || wrong "it was removed in spite of no"
echo y | on_terminal remove third --discard-dirty >"$T/out" || wrong "it was not removed: $(cat "$T/out")"
expect_error 3 third p status third
on_terminal remove vm --discard-dirty --yes </dev/null >"$T/out" || wrong "it was not removed: $(cat "$T/out")"
if grep -q "Go on" "$T/out"; then wrong "--yes asks: $(cat "$T/out")"; fi
p format "$SHM/other" --size 32M
echo n | on_terminal format "$SHM/other" --force >"$T/out" && wrong "it was formatted in spite of no"
p format "$SHM/other" --force  # nobody to ask
for command in "register $SHM/other --format --force" "cache-start -p $SHM/other -f -F"; do
  echo n | on_terminal $command >"$T/out" && wrong "it was formatted in spite of no: $command"
  grep -q "What is at $SHM/other is overwritten. Go on" "$T/out" || wrong "$command asks: $(cat "$T/out")"
  [ "$(p status --json | jq '.cache_devs | length')" = 1 ] || wrong "it was registered in spite of no: $command"
done
on_terminal register "$SHM/other" --format --force --yes </dev/null >"$T/out" || wrong "$(cat "$T/out")"
if grep -q "Go on" "$T/out"; then wrong "--yes asks: $(cat "$T/out")"; fi
p unregister other
p register "$SHM/other" --format --force  # nobody to ask
p umount "$MNT"
finish

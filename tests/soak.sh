#!/usr/bin/env bash
# Everything at once: a file of a mount is worked on against an oracle while settings and modes change, the backing is
# written back and becomes longer, the cache device becomes larger and smaller, and the daemon is killed, again and
# again. In the end the backing alone holds what the file does.
# usage: tests/soak.sh [MINUTES [SEED]]    30 minutes; needs root. PCACHEFS names another executable than the release build
. "$(dirname "$0")/e2e/lib.sh"

minutes=${1:-30}
seed=${2:-$((RANDOM))}
say "seed $seed, $minutes minutes"
RANDOM=$seed

mount_again() { p mount "$MNT" --cache "$SHM/cache" || fail "it does not mount again"; }

any() { local list=("$@"); echo "${list[RANDOM % ${#list[@]}]}"; }

change_a_setting() {
  local assignment
  assignment=$(any dirty_high=5% dirty_high=50% dirty_high=95% dirty_max_age=0 dirty_max_age=1s dirty_max_age=1m \
    dirty_low=0% dirty_low=40% writeback_rate_min=0 writeback_rate_min=1M writeback_rate_max=0 writeback_rate_max=20M \
    writeback_order=epoch writeback_order=none full_policy=throttle full_policy=bypass full_max_wait=10s share_max=60% share_max=100% \
    admission=always admission=second_touch sequential_bypass=0 sequential_bypass=1M)
  # A low mark above the high one, as the other was set before, is refused and changes nothing.
  p set dev "$assignment" 2>"$T/err" || grep -q "must not be more than" "$T/err" || fail "set $assignment: $(cat "$T/err")"
  done_of[set]=$((done_of[set] + 1))
}

switch_the_mode() {
  local mode
  mode=$(any writeback writethrough writearound writeonly passthrough)
  p set dev mode="$mode" >"$T/out" || fail "set mode=$mode"
  done_of[switch]=$((done_of[switch] + 1))
}

detach_and_attach() {
  p detach dev >"$T/out" || fail "detach"
  p attach dev >"$T/out" || fail "attach"
  done_of[detach]=$((done_of[detach] + 1))
}

write_back() { p "$(any flush drain)" dev >"$T/out" || fail "flush"; done_of[flush]=$((done_of[flush] + 1)); }

resize() {
  local size
  size=$(stat -c %s "$T/backing")
  [ "$size" -lt $((400 << 20)) ] || return 0
  truncate -s $((size + (1 + RANDOM % 8) * 64 * 4096)) "$T/backing"
  p resize dev >"$T/out" || fail "resize"
  [ "$(stat -c %s "$MNT/dev")" -eq "$(stat -c %s "$T/backing")" ] || fail "$(stat "$MNT/dev")"
  done_of[resize]=$((done_of[resize] + 1))
}

cache_size() { p status --json | jq '.cache_devs[0].size_bytes'; }

# Sometimes the waiting is broken off, so that other things happen while the cache device becomes smaller.
change_the_cache_size() {
  local size now patience status=0
  patience=$(any 0.1 0.3 60)
  size=$((48 + RANDOM % 81))
  now=$(cache_size)
  if [ $((size << 20)) -ge "$now" ]; then
    p grow "$SHM/cache" ${size}M 2>"$T/err" || grep -q "is becoming smaller" "$T/err" || fail "grow ${size}M: $(cat "$T/err")"
    done_of[grow]=$((done_of[grow] + 1))
    return
  fi
  timeout -s INT "$patience" "$PCACHEFS" shrink "$SHM/cache" ${size}M >"$T/out" 2>"$T/err" || status=$?
  case $status in
    0) [ "$(cache_size)" -eq $((size << 20)) ] || fail "it has $(cache_size) bytes after shrink ${size}M" ;;
    124) [ "$patience" != 60 ] || fail "shrink ${size}M does not end"
      done_of[unfinished]=$((done_of[unfinished] + 1)) ;;
    *) grep -q "is becoming smaller" "$T/err" || fail "shrink ${size}M: $(cat "$T/err")" ;;
  esac
  done_of[shrink]=$((done_of[shrink] + 1))
}

look() {
  p status --json >"$T/status" && p stats dev --json >"$T/stats" || fail "no status"
  [ "$(jq '.logic_devs[0].lost_bytes + .logic_devs[0].checksum_errors' "$T/status")" -eq 0 ] || fail "$(cat "$T/status")"
  [ "$(jq -r '.logic_devs[0].state' "$T/status")" = running ] || fail "$(cat "$T/status")"
  done_of[look]=$((done_of[look] + 1))
}

kill_the_daemon() {
  local pid
  pid=$(daemon_pid "$MNT")
  [ -n "$pid" ] || fail "there is no daemon to kill"
  kill -9 "$pid"
  gone "$pid"
  timeout 300 "$PCACHEFS" umount "$MNT"
  mount_again
  done_of[kill]=$((done_of[kill] + 1))
}

declare -A done_of=([set]=0 [switch]=0 [detach]=0 [flush]=0 [look]=0 [kill]=0 [resize]=0 [grow]=0 [shrink]=0
  [unfinished]=0)
CACHE_SIZE=64M simple_setup 192M
python3 "$(dirname "$0")/soak/worker.py" "$MNT/dev" "$T/backing" "$seed" "$T/stop" >"$T/worker" 2>&1 &
worker=$!
trap 'status=$?; kill $worker 2>/dev/null || true; (exit $status); cleanup' EXIT
end=$((SECONDS + minutes * 60))
while [ $SECONDS -lt $end ] && kill -0 $worker 2>/dev/null; do
  case $((RANDOM % 20)) in
    0 | 1) kill_the_daemon ;;
    2 | 3 | 4) write_back ;;
    5 | 6 | 7) look ;;
    8 | 9 | 10) switch_the_mode ;;
    11) detach_and_attach ;;
    12) resize ;;
    13) change_the_cache_size ;;
    *) change_a_setting ;;
  esac
  sleep 0.$((RANDOM % 10))
done
touch "$T/stop"
status=0
wait $worker || status=$?
cat "$T/worker"
[ $status -eq 0 ] || fail "seed $seed"
say "done: $(for what in "${!done_of[@]}"; do echo -n "$what ${done_of[$what]} "; done)"
look
write_back
dd if="$MNT/dev" bs=1M status=none | cmp - "$T/backing" || fail "the backing alone is something else; seed $seed"
say "the backing alone holds all of it"

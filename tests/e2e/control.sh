#!/usr/bin/env bash
# The control plane beside a backing that hangs: what is asked with curl, over the unix socket and over TCP, is answered
# while nothing can be written back and the cache is full.
. "$(dirname "$0")/lib.sh"
command -v curl >/dev/null || skip "no curl"
. "$(dirname "$0")/frozen_backing.bash"

# Freezing what is frozen already fails.
hangs() { ! fsfreeze --freeze "$T/fs" 2>/dev/null; }

p format "$SHM/cache" --size 32M
mount_with_http 49494 -o dirty_max_age=24h,full_max_wait=24h
p add dev "$T/fs/backing"
head -c 96M /dev/urandom >"$T/data"
SOCKET=$(echo "$PCACHEFS_RUN_DIR"/*.sock)
ask() { curl -sS --max-time 60 --unix-socket "$SOCKET" "http://x$1" "${@:2}"; }
rpc() { ask /v1/rpc -d "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"$1\",\"params\":${2:-"{}"}}"; }

say "the backing hangs, and the cache fills up"
freeze
dd if="$T/data" of="$MNT/dev" bs=1M oflag=direct conv=notrunc status=none &
writer=$!
for _ in $(seq 600); do
  [ "$(stat_of dev space_waits)" -gt 0 ] && break
  sleep 0.1
done
[ "$(stat_of dev space_waits)" -gt 0 ] || fail "the cache is not full"

say "status, stats, jobs, health and events answer all the same"
hangs || fail "the backing does not hang"
ask /v1/status | jq -e '.logic_devs[0].dirty_bytes > 0 and .schema.major == 1' >/dev/null || fail "no status"
ask '/v1/stats?name=dev' | jq -e '.logic_dev.writes > 0' >/dev/null || fail "no stats"
ask /healthz | grep -q '^\(ok\|warning\)$' || fail "no health"
rpc status | jq -e '.result.logic_devs[0].name == "dev"' >/dev/null || fail "no status over JSON-RPC"

say "a drain is a job, which can be seen and cancelled"
job=$(rpc drain '{"name":"dev"}' | jq -e .result.job)
ask /v1/jobs | jq -e ".jobs[] | select(.job == $job) | .state == \"running\"" >/dev/null || fail "no running job"
rpc cancel "{\"job\":$job}" | jq -e .result >/dev/null || fail "it cannot be cancelled"
for _ in $(seq 600); do
  [ "$(ask /v1/jobs | jq -r ".jobs[] | select(.job == $job) | .state")" = running ] || break
  sleep 0.1
done
[ "$(ask /v1/jobs | jq -r ".jobs[] | select(.job == $job) | .state")" = cancelled ] || fail "it was not cancelled"
p jobs -H | grep -q $'\tdrain\tdev\tcancelled\t' || fail "jobs does not list it"
for _ in $(seq 600); do  # a look each second
  p events -H | grep -q $'\twrites_wait\tdev\t' && break
  sleep 0.1
done
p events -H | grep -q $'\twrites_wait\tdev\t' || fail "events does not list that writes wait"
ask '/v1/events?follow=0' | jq -se 'any(.kind == "writes_wait") and all(.schema.major == 1)' >/dev/null || fail "no event of it"

say "health says that writes wait, and then that the backing device answers nothing"
level_becomes() {
  for _ in $(seq 900); do
    [ "$(p status --json | jq -r .health.level)" = "$1" ] && return
    sleep 0.1
  done
  fail "health is not $1: $(p status --check)"
}
level_becomes warning
{ p status --check || true; } | grep -q 'writes wait for space' || fail "$(p status --check)"
level_becomes critical
{ p status --check || true; } | grep -q "$T/fs/backing has answered nothing for" || fail "$(p status --check)"
! p events -H | grep -q $'\twrites_go_on\t' || fail "it says that writes go on: $(p events)"

say "over TCP everybody may look and nobody change"
curl -sS --max-time 60 "http://127.0.0.1:$PORT/v1/status" | jq -e .logic_devs >/dev/null || fail "no status over TCP"
curl -sS --max-time 60 "http://127.0.0.1:$PORT/v1/rpc" -d '{"jsonrpc":"2.0","id":1,"method":"umount"}' |
  jq -e '.error.data.code == "permission"' >/dev/null || fail "umount over TCP"
hangs || fail "the backing did not hang all the while"

say "when the backing is back, everything goes on"
thaw
wait "$writer"
p drain dev
[ "$(stat_of dev dirty_bytes)" -eq 0 ] || fail "dirty after a drain"
cmp "$T/fs/backing" "$T/data" || fail "the backing has other data"
level_becomes ok
for _ in $(seq 300); do p events -H | grep -q $'\twrites_go_on\tdev\t' && break; sleep 0.1; done
p events -H | grep -q $'\twrites_go_on\tdev\t' || fail "it does not say that writes go on"

say "nobody waits for ever for a daemon that is stopped"
pid=$(daemon_pid "$MNT")
finish_continued() {
  local status=$?
  kill -CONT "$pid" 2>/dev/null
  (exit $status)
  finish
}
trap finish_continued EXIT
# refused_in SECONDS CODE COMMAND...: ends with CODE, in that time, and says who does not answer.
refused_in() {
  local got=0 said
  said=$(timeout "$1" "$PCACHEFS" "${@:3}" 2>&1) || got=$?
  [ "$got" -eq "$2" ] || fail "${*:3} ends with $got, not $2: $said"
  grep -q "process $pid) did not answer" <<<"$said" || fail "${*:3} does not say who does not answer: $said"
}
kill -STOP "$pid"
checks=()
refused_in 30 7 status --mount "$MNT" & checks+=($!)
refused_in 30 7 umount "$MNT" & checks+=($!)
refused_in 30 7 resize dev & checks+=($!)
refused_in 9 11 status --check & checks+=($!)
for check in "${checks[@]}"; do wait "$check" || fail "see above"; done
kill -CONT "$pid"
mounted_at "$MNT" || fail "it was unmounted"
p status --check >/dev/null || fail "it does not go on"

say "while the backing device keeps the daemon from ending, it says that it ends"
dd if="$T/data" of="$MNT/dev" bs=1M count=8 oflag=direct conv=notrunc status=none
freeze
p flush dev >"$T/flush" 2>&1 &
flush=$!
for _ in $(seq 600); do [ "$(stat_of dev backing_silent_ms)" -gt 0 ] && break; sleep 0.1; done
p umount "$MNT" &
umount=$!
for _ in $(seq 600); do
  [ "$(p status --json | jq -r .state)" = closing ] && break
  sleep 0.1
done
[ "$(p --mount "$MNT" status --json | jq -r .state)" = closing ] || fail "it does not say that it ends"
p status | grep -q "is being taken down" || fail "$(p status)"
code=0
p status --check >"$T/out" || code=$?
[ "$code" -eq 10 ] || fail "status --check ends with $code"
expect_exit 4 p set dev dirty_high=30%
grep -q "being taken down" "$T/err" || fail "it does not say why nothing can be set: $(cat "$T/err")"
kill -0 "$umount" 2>/dev/null && [ -e "$SOCKET" ] || fail "it ended before the backing device answered"
thaw
wait "$umount" || fail "umount fails"
wait "$flush" && fail "the flush says that it was done" || true
[ ! -e "$SOCKET" ] || fail "the socket stays"

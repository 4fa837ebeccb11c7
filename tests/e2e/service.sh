#!/usr/bin/env bash
# The daemon as a service: what it tells the service manager, what it logs and how, and the unit.
. "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip "no python3"
HERE=$(cd "$(dirname "$0")" && pwd)

say "a cache device that is to be recovered"
CACHE_SIZE=64M simple_setup 64M -o dirty_max_age=86400000
dd if=/dev/urandom of="$MNT/dev" bs=1M count=24 oflag=direct conv=notrunc status=none
pid=$(daemon_pid "$MNT")
kill -9 "$pid"
gone "$pid"
p umount "$MNT"

say "progress, ready, signs of life, the end"
python3 "$HERE/service.py" "$PCACHEFS" "$MNT" "$SHM/cache" dev || fail "the protocol of the service manager"

say "without a service manager it is the same, and it logs to standard error"
serve() { "$PCACHEFS" mount -f "$MNT" --cache "$SHM/cache" "$@" 2>"$T/log" & DAEMON=$!; }
wait_for() {
  for _ in $(seq 1200); do grep -q "$1" "$T/log" && return; kill -0 "$DAEMON" 2>/dev/null || break; sleep 0.1; done
  cat "$T/log"
  fail "the log lacks $1"
}
serve
wait_for "\[info\] serving $MNT"
wait_for '\[info\] dev: it is running'
p set dev mode=writethrough
wait_for '\[info\] dev: its mode is writethrough'
kill -TERM "$DAEMON"
wait "$DAEMON" || fail "it ends with $?"
serve --log-level warning
for _ in $(seq 1200); do [ -e "$MNT/dev" ] && break; sleep 0.1; done
kill -TERM "$DAEMON"
wait "$DAEMON" || fail "it ends with $?"
[ ! -s "$T/log" ] || { cat "$T/log"; fail "it logs more than warnings"; }
expect_exit 2 p mount "$MNT" --cache "$SHM/cache" -o log_level=loud
grep -q "log level.*loud.*debug, info, warning, error" "$T/err" || fail "the error does not say what there is"

say "a hang-up does not end it"
serve
wait_for "\[info\] serving $MNT"
kill -HUP "$DAEMON"
wait_for '\[warning\] SIGHUP is ignored; pcachefs restore FILE'
p status >/dev/null || fail "it does not answer after SIGHUP"

say "a start that fails takes nobody else's mount down"
expect_exit 4 p mount -f "$MNT" --cache "$SHM/other"
expect_exit 4 p umount --dead "$MNT"
p status >/dev/null && [ -e "$MNT/dev" ] || fail "the mount is gone"
kill -9 "$DAEMON"
wait "$DAEMON" || true
p umount --dead "$MNT" || fail "a dead mount stays"
! mounted_at "$MNT" || fail "the dead mount is still there"
p umount --dead "$MNT" || fail "where there is no mount nothing is to do"

say "who deleted its socket is told how to go on"
serve
wait_for "\[info\] serving $MNT"
rm "$PCACHEFS_RUN_DIR"/*.sock
expect_exit 8 p umount "$MNT"
grep -q "umount -i $MNT" "$T/err" || fail "it does not say how: $(cat "$T/err")"
umount -i "$MNT"
wait "$DAEMON" || fail "it ends with $?"

say "nobody waits for a log that takes nothing"
mkfifo "$T/full"
exec 7<>"$T/full"
head -c 65536 /dev/zero >&7
"$PCACHEFS" mount -f "$MNT" --cache "$SHM/cache" 2>"$T/full" &
DAEMON=$!
for _ in $(seq 600); do p status >/dev/null 2>&1 && break; sleep 0.1; done
p set dev mode=writearound
p set dev mode=writeback
p events -H | grep -q $'\tmode_changed\tdev\t' || fail "events are not told"
kill -TERM "$DAEMON"
for _ in $(seq 300); do kill -0 "$DAEMON" 2>/dev/null || break; sleep 0.1; done
wait "$DAEMON" || fail "it ends with $?"
exec 7>&-

say "to the journal, where standard error is connected to it"
unshare -m bash -c 'mount -t tmpfs none /run && exec "$@"' bash \
  python3 "$HERE/journal.py" "$PCACHEFS" "$MNT" "$SHM/cache" || fail "the log in the journal"

say "the unit"
UNIT=$HERE/../../mount/package/pcachefs@.service.in
if command -v systemd-analyze >/dev/null; then
  mkdir "$T/units"
  sed "s#@SBINDIR@/pcachefs#$PCACHEFS#" "$UNIT" >"$T/units/pcachefs@mnt-pcache.service"
  systemd-analyze verify --man=no "$T/units/pcachefs@mnt-pcache.service" >"$T/out" 2>&1 ||
    { cat "$T/out"; fail "systemd does not take the unit"; }
  [ ! -s "$T/out" ] || { cat "$T/out"; fail "systemd has something to say about the unit"; }
else
  say "left out: systemd's judgement of the unit, as there is no systemd-analyze"
fi

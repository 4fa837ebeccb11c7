#!/usr/bin/env bash
# `pcachefs top` in a terminal of its own: what it shows, its keys, another size, and a daemon that goes and comes.
. "$(dirname "$0")/lib.sh"

session=pcachefs-$$
t() { tmux -L "$session" "$@"; }
screen() { t capture-pane -p -t top; }
end_top() { local status=$?; t kill-server 2>/dev/null; (exit $status); cleanup; }
trap end_top EXIT
shows() {  # PATTERN: within ten seconds
  for _ in $(seq 100); do screen >"$T/screen" 2>&1; grep -qE -- "$1" "$T/screen" && return; sleep 0.1; done
  cat "$T/screen"; fail "top does not show: $1"
}
press() { t send-keys -t top "$1"; }

simple_setup 64M -o dirty_max_age=24h
expect_exit 2 p top </dev/null
t -f /dev/null new-session -d -s top -x 150 -y 20 \
  "PCACHEFS_RUN_DIR=$PCACHEFS_RUN_DIR $PCACHEFS --mount $MNT top --interval 0.5; echo ended with \$?; sleep 60"

say "what the devices do"
shows "pcachefs top +$MNT +every 0.5 s, by name"
shows "^health ok"
shows "^dev +running +writeback"
fio --name=w --filename="$MNT/dev" --rw=randrw --bs=4k --size=32M --ioengine=libaio --iodepth=4 --direct=1 --time_based \
  --runtime=6 --output=/dev/null &
load=$!
shows "^dev +running +writeback +[1-9][0-9]*k? +[0-9.]+ [KM]iB/s +[1-9][0-9]*k? +[0-9.]+ [KM]iB/s +[0-9]+[nu]s/[0-9]+[num]s"
shows "^dev .* [0-9]+% +[0-9.]+ [KM]iB +[0-9]+%"
wait $load

say "its keys"
press s
shows "by throughput"
press S
shows "by name"
press +
shows "every 1.0 s"
press -
shows "every 0.5 s"
press p
shows "PAUSED"
press p
shows "by name +h: help"
press h
shows "any key goes back"
press x
shows "^health ok"

say "another size"
t resize-window -t top -x 40 -y 5
shows "^dev +running"
[ "$(screen | awk '{ if (length($0) > 40) print }')" = "" ] || fail "a line is longer than the terminal"
t resize-window -t top -x 150 -y 20
shows "^NAME +STATE .* BACK"

say "the daemon goes and comes back"
p umount "$MNT"
shows "NO DAEMON: no running pcachefs serves $MNT"
p mount "$MNT" --cache "$SHM/cache"
shows "^dev +running"

say "it ends"
press q
shows "ended with 0"

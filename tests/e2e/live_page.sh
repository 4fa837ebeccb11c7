#!/usr/bin/env bash
# The live page in headless Chromium, while the mount is in use: what its script makes of it, also while the daemon does
# not answer. SCREENSHOT=FILE keeps a picture.
. "$(dirname "$0")/lib.sh"
for program in chromedriver chromium curl python3; do command -v $program >/dev/null || skip "no $program"; done
HERE=$(cd "$(dirname "$0")" && pwd)

truncate -s 64M "$T/backing"
p format "$SHM/cache" --size 32M
mount_with_http 49794
p add dev "$T/backing"
(
  while [ ! -e "$T/stop" ]; do
    dd if=/dev/urandom of="$MNT/dev" bs=256K count=32 oflag=direct conv=notrunc status=none
    dd if="$MNT/dev" of=/dev/null bs=64K count=256 iflag=direct status=none
  done
) &
load=$!
finish() {
  local status=$?
  set +e
  touch "$T/stop"
  wait "$load"
  (exit $status)
  cleanup
}
trap finish EXIT

say "it needs nothing but the daemon"
curl -fsS --max-time 60 "http://127.0.0.1:$PORT/" >"$T/page"
! grep -Eo '(src|href)="[^"]*"' "$T/page" | grep -v 'href="data:' || fail "it loads something else"

say "it shows what goes on, and when nobody answers"
python3 "$HERE/live_page.py" "http://127.0.0.1:$PORT/" "$MNT" "$(daemon_pid "$MNT")" dev ${SCREENSHOT:+"$SCREENSHOT"} ||
  fail "the live page"

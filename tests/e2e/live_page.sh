#!/usr/bin/env bash
# The live page in headless Chromium, while the mount is in use: what its script makes of it. SCREENSHOT=FILE keeps a
# picture.
. "$(dirname "$0")/lib.sh"
command -v chromium >/dev/null || skip "no chromium"
command -v curl >/dev/null || skip "no curl"

truncate -s 64M "$T/backing"
p format "$SHM/cache" --size 32M
for PORT in $(seq 49794 49894); do
  p mount "$MNT" --cache "$SHM/cache" --http "$PORT" 2>"$T/err" && break
  grep -q "another program listens" "$T/err" || { cat "$T/err"; fail "it cannot be mounted"; }
done
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

say "it shows what status says"
browse() { timeout 300 chromium --headless --no-sandbox --disable-gpu --user-data-dir="$T/chromium" "$@" 2>/dev/null; }
shown() { grep -q "$1" "$T/dom" || { missing=$1; return 1; }; }
complete() {
  shown "$MNT, " && shown 'class="pill ok">ok<' && shown 'id="read">[0-9.]* [KMG]*i*B/s<' &&
    shown 'id="ratio">[0-9.]* %<' && shown 'class="dirty"\|class="clean"' && shown '<td>backing_write</td>' &&
    shown '<polyline' && shown 'logic dev added' && shown '<option value="dev">'
}
done=
for ms in 5000 10000 20000 40000 80000; do  # a slow machine takes longer
  browse --timeout=$ms --dump-dom "http://127.0.0.1:$PORT/" >"$T/dom" || true
  if complete; then done=1; break; fi
done
[ -n "$done" ] || fail "the page lacks $missing"
[ -z "${SCREENSHOT:-}" ] ||
  browse --timeout=20000 --window-size=1400,1150 --screenshot="$SCREENSHOT" "http://127.0.0.1:$PORT/" >/dev/null

# What every end-to-end test uses: a directory and a run directory of its own, and clean-up of whatever it attached.
# Each test is started by ctest with PCACHEFS naming the executable.
set -euo pipefail

PCACHEFS=${PCACHEFS:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build/release/pcachefs}
T=$(mktemp -d /tmp/pcachefs-e2e-XXXXXX)
SHM=$(mktemp -d /dev/shm/pcachefs-e2e-XXXXXX)
MNT=$T/mnt
export PCACHEFS_RUN_DIR=$T/run PCACHEFS_CONFIG_DIR=$T/etc
mkdir -p "$MNT"
loops=()
mounts=()   # filesystems on loop devices
points=("$MNT")

# mountpoint(1) would look at the directory, which a filesystem that lost its disk refuses.
mounted_at() { grep -q " $1 " /proc/self/mounts; }

cleanup() {
  local status=$?
  set +e
  for m in "${mounts[@]}"; do mounted_at "$m" && umount -l "$m"; done
  for l in "${loops[@]}"; do losetup -d "$l" 2>/dev/null; done
  for p in "${points[@]}"; do
    timeout 300 "$PCACHEFS" umount "$p" >/dev/null 2>&1
    grep -q " $p fuse" /proc/mounts && umount -l "$p"
  done
  if [ $status -ne 0 ] && [ $status -ne 77 ]; then echo "FAILED with exit status $status: $0" >&2; fi
  rm -rf "$T" "$SHM"
  exit $status
}
trap cleanup EXIT

fail() { echo "FAIL: $*" >&2; exit 1; }
skip() { echo "SKIP: $*"; exit 77; }
say() { echo "== $*"; }
p() { "$PCACHEFS" "$@"; }

[ -c /dev/fuse ] || skip "no /dev/fuse"

# mount_with_http PORT OPTIONS...: mounts $SHM/cache and serves HTTP too, on that port or the next that is free: $PORT.
mount_with_http() {
  local first=$1; shift
  for PORT in $(seq "$first" $((first + 100))); do
    p mount "$MNT" --cache "$SHM/cache" --http "$PORT" "$@" 2>"$T/err" && return
    grep -q "another program listens" "$T/err" || { cat "$T/err"; fail "it cannot be mounted"; }
  done
  fail "no port is free"
}

# expect_exit CODE COMMAND...: the command ends with CODE and, where that is an error, prints exactly one line of error.
expect_exit() {  # a function cannot run under timeout, so `p` becomes the executable here
  [ "$2" != p ] || set -- "$1" "$PCACHEFS" "${@:3}"
  local want=$1 got=0; shift
  timeout 300 "$@" >"$T/out" 2>"$T/err" || got=$?
  if [ "$got" -ne "$want" ]; then
    echo "FAIL: exit status $got, expected $want: $*" >&2; cat "$T/out" "$T/err" >&2; exit 1
  fi
  if [ "$want" -ne 0 ] && [ "$(wc -l <"$T/err")" -ne 1 ]; then
    echo "FAIL: expected one line of error: $*" >&2; cat "$T/err" >&2; exit 1
  fi
}

# stat_of NAME FIELD: one number of `status --json` for a logical device.
stat_of() { p status "$1" --json | jq -e ".logic_devs[0].$2"; }

daemon_pid() { pgrep -f "pcachefs mount $1( |\$)" | head -1; }

# attach FILE: a loop device on it, named in $LOOP.
attach() {
  [ -e /dev/loop-control ] || skip "no loop devices"
  losetup --find >/dev/null || skip "no free loop device"
  LOOP=$(losetup --find --show --direct-io=on "$1") || fail "no loop device on $1"
  loops+=("$LOOP")
}
# A detached loop device may be another test's next: the clean-up must not know it any more.
detach() {
  losetup -d "$1"
  local kept=() l
  for l in "${loops[@]}"; do [ "$l" = "$1" ] || kept+=("$l"); done
  loops=("${kept[@]}")
}

# detach_and_wait LOOP [NAME]: detaching from MNT/NAME is up to the kernel where something still looks at the loop device.
detach_and_wait() {
  detach "$1"
  for _ in $(seq 1200); do [ -n "$(losetup -j "$MNT/${2:-dev}" 2>/dev/null)" ] || return 0; sleep 0.1; done
  fail "$1 stays attached"
}

# gone PID: the daemon that was killed is gone when its cache can be opened, which is up to the kernel.
gone() {
  for _ in $(seq 1200); do kill -0 "$1" 2>/dev/null || return 0; sleep 0.1; done
  fail "the killed daemon lives on"
}

# Small cache of 64 MiB in shared memory and a backing file of the given size, mounted, with a logical device `dev`.
simple_setup() {
  local size=${1:-256M}; shift || true
  truncate -s "$size" "$T/backing"
  p format "$SHM/cache" --size "${CACHE_SIZE:-64M}"
  p mount "$MNT" --cache "$SHM/cache" "$@"
  p add dev "$T/backing"
}

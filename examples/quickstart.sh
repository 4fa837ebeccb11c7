#!/usr/bin/env bash
# From a fresh checkout to a checked, working cache in one go; needs root on Debian 12 with git and apt.
# usage: examples/quickstart.sh [--keep] [MNT]      MNT: where to mount, /mnt/pcache by default
# --keep leaves everything mounted to try things out. PCACHEFS_PRESET names another CMake preset than `release`.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
preset=${PCACHEFS_PRESET:-release}
pcachefs=$repo/build/$preset/pcachefs
keep=false MNT=/mnt/pcache
for argument in "$@"; do
  case $argument in
    --keep) keep=true ;;
    -*) sed -n '2,4s/^# //p' "$0" >&2; exit 2 ;;
    *) MNT=$argument ;;
  esac
done
MNT=$(realpath -m -- "$MNT")
work='' loop='' fs='' mounted=false made_mnt=false steps=0

step() { steps=$((steps + 1)); echo "[$steps/9] $*"; }
fail() { echo "quickstart: $*" >&2; exit 1; }
p() { "$pcachefs" --mount "$MNT" "$@"; }
# quietly COMMAND...: its output goes to a log, which is shown when it fails.
quietly() { "$@" >"$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; fail "failed: $*"; }; }

# Prints the commands that take down what is mounted at $MNT, whichever run left it.
take_down_commands() {
  local device dir
  for device in $(losetup -nO NAME -j "$MNT/demo" 2>/dev/null); do
    findmnt -nro TARGET -S "$device" | sed 's/^/  umount /'
    echo "  losetup -d $device"
  done
  printf '  %q umount %q\n' "$pcachefs" "$MNT"
  dir=$(p status --json 2>/dev/null | jq -r '.cache_devs[0].path | rtrimstr("/cache")' 2>/dev/null) || true
  case $dir in */pcachefs-quickstart-*) echo "  rm -r $dir" ;; esac
}

attach_loop() { loop=$(losetup -f --show --direct-io=on "$MNT/demo") || fail "no loop device; try: modprobe loop"; }

# Detaching ends only when the last opener (udev may be one) has closed the device.
detach_loop() {
  losetup -d "$loop"
  for _ in $(seq 100); do
    [ -n "$(losetup -nO NAME -j "$MNT/demo")" ] || { loop=''; return 0; }
    sleep 0.1
  done
  fail "$loop stays attached: something has it open"
}

mount_fs() { mount "$loop" "$work/fs" && fs=$work/fs; }
unmount_fs() { umount "$fs" && fs=''; }

# Also what runs on failure: takes down only what this run put up, and keeps the files when that does not work.
take_down() {
  if [ -n "$fs" ]; then unmount_fs || return 1; fi
  if [ -n "$loop" ]; then detach_loop; fi
  if $mounted; then "$pcachefs" umount "$MNT" || return 1; mounted=false; fi
  if $made_mnt; then rmdir "$MNT" || return 1; made_mnt=false; fi
  if [ -n "$work" ]; then rm -rf --one-file-system "$work" || return 1; work=''; fi
}

on_exit() {
  local status=$?
  trap - EXIT
  set +e
  if ! (take_down); then
    echo "quickstart: could not clean up (files in $work); take it down with:" >&2
    take_down_commands >&2
    status=1
  fi
  [ $status -eq 0 ] || echo "quickstart: FAILED" >&2
  exit $status
}
trap on_exit EXIT
trap 'exit 130' INT TERM

[ "$(id -u)" -eq 0 ] || fail "must run as root: it installs packages, mounts, and attaches loop devices"
if type=$(findmnt -nro FSTYPE -M "$MNT"); then
  [[ $type == *fuse.pcachefs* ]] || fail "$MNT has a $type mounted already; name another directory"
  fail "pcachefs is mounted at $MNT already, from an earlier run? Take it down first, with:
$(take_down_commands)"
fi
work=$(mktemp -d /var/tmp/pcachefs-quickstart-XXXXXX)

step "installing the Debian packages that are missing (a few minutes the first time)"
quietly "$repo/tests/install_deps.sh"
[ -c /dev/fuse ] || modprobe fuse 2>/dev/null || fail "no /dev/fuse: this kernel or container does not offer FUSE"

step "building pcachefs (a few minutes the first time)"
quietly cmake -S "$repo" --preset "$preset"
quietly cmake --build "$repo/build/$preset" --target pcachefs

step "making a cache device of 256 MiB and a backing image of 1 GiB in $work"
mkdir "$work/fs"
truncate -s 1G "$work/backing.img"
"$pcachefs" format "$work/cache" --size 256M --label quickstart

step "mounting at $MNT and exposing the image as $MNT/demo"
[ -d "$MNT" ] || { mkdir -p "$MNT"; made_mnt=true; }
"$pcachefs" mount "$MNT" --cache "$work/cache"
mounted=true
p add demo "$work/backing.img"
[ "$(stat -c %s "$MNT/demo")" -eq $((1 << 30)) ] || fail "$MNT/demo is not 1 GiB"

step "making an ext4 on a loop device on $MNT/demo"
attach_loop
mkfs.ext4 -q "$loop" 768M  # the last 256 MiB are for fio
mount_fs

step "writing 100 MiB through it and reading them back after a remount"
head -c 100M /dev/urandom >"$work/data"
cp "$work/data" "$fs/data"
unmount_fs
mount_fs
sum=$(sha256sum <"$work/data")
[ "$(sha256sum <"$fs/data")" = "$sum" ] || fail "the file read back is not the one written"
unmount_fs
detach_loop

step "running fio with verification on the last 256 MiB of $MNT/demo"
quietly fio --name=quickstart --filename="$MNT/demo" --offset=768M --size=256M --io_size=128M --rw=randrw --bs=4k \
  --ioengine=libaio --direct=1 --iodepth=16 --verify=crc32c --verify_fatal=1 --aux-path="$work"

step "writing everything back; the image alone must then equal the file"
show() {
  p status demo --json | jq -r --arg when "$1" 'def mib: . / 1048576 | floor | "\(.) MiB"; .logic_devs[0] |
    "      \($when): \(.read_hits) blocks read were hits, \(.read_misses) misses; " +
    "\(.dirty_bytes | mib) dirty, \(.written_back_bytes | mib) written back"'
}
show "before"; p flush demo; show "after"
p status demo --json | jq -e '.logic_devs[0] | .state == "running" and .dirty_bytes == 0 and .written_back_bytes > 0 and
  .checksum_errors == 0 and .lost_bytes == 0' >/dev/null || fail "status is not that of a healthy, clean device"
cmp "$MNT/demo" "$work/backing.img"

if $keep; then
  step "leaving it up, with the ext4 mounted at $work/fs"
  attach_loop
  mount_fs
  [ "$(sha256sum <"$fs/data")" = "$sum" ] || fail "the file read back is not the one written"
  trap - EXIT
  printf 'All steps checked. Try, for example:\n  %q status\n' "$pcachefs"
  printf '  FILE=%s/trial fio %q\n' "$fs" "$repo/examples/fio/randrw-verify.fio"
  printf '  %q flush demo\nTake it down with:\n' "$pcachefs"
  take_down_commands
else
  step "taking everything down"
  take_down
  echo "All steps checked; nothing is left mounted or attached."
fi

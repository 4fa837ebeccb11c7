# What the scripts of this folder share, on top of the end-to-end tests': filesystems that are made, mounted, worked on,
# and unmounted synchronously. Whatever depends on the kernel or on other programs is waited for up to two minutes.
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/lib.sh"

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
WITNESS_TOOLS=${WITNESS_TOOLS:-$(dirname "$PCACHEFS")/tests}
FS=$T/fs
mkdir "$FS"
RECORDER=$T/recorder
mkdir "$RECORDER"
mounts+=("$FS" "$RECORDER")
# What is written most is kept in memory, where there is room for it.
if [ "$(df --output=avail -m "$SHM" | tail -1)" -ge 1500 ]; then WORK=$SHM; else WORK=$T; fi

py() { python3 -B "$HERE/$1" "${@:2}"; }

# eventually COMMAND...: the command succeeds within two minutes.
eventually() {
  local end=$((SECONDS + 120))
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.1
  done
}

need_filesystem() {
  case $1 in
    ext4) command -v mkfs.ext4 e2fsck >/dev/null || skip "no e2fsprogs" ;;
    xfs) command -v mkfs.xfs xfs_repair >/dev/null || skip "no xfsprogs" ;;
    *) fail "the filesystem is ext4 or xfs, not $1" ;;
  esac
  grep -qw "$1" /proc/filesystems || modprobe -q "$1" 2>/dev/null || skip "this kernel has no $1"
  [ -e /dev/loop-control ] || skip "no loop devices"
}

# Makes a filesystem on a file that is made anew, as small as it gets.
make_filesystem() {  # FILESYSTEM FILE
  rm -f "$2"
  case $1 in
    ext4)
      truncate -s 96M "$2"
      mkfs.ext4 -q -F -J size=4 -E lazy_itable_init=0,lazy_journal_init=0 "$2" >"$T/out" 2>&1 ;;
    xfs)
      truncate -s 320M "$2"
      mkfs.xfs -q "$2" >"$T/out" 2>&1 ;;
  esac || { cat "$T/out" >&2; fail "mkfs.$1"; }
}

# $RECORDER/backing is IMAGE, and RECORDING gets what reaches it.
recording() { [ -e "$RECORDER/backing" ] || ! kill -0 $recorder 2>/dev/null; }
no_recorder() { umount "$RECORDER" 2>"$T/err"; }
start_recorder() {  # IMAGE RECORDING
  "$WITNESS_TOOLS/witness_record_fuse" -f -s "$RECORDER" "$1" "$2" 2>"$T/recorder.log" &
  recorder=$!
  eventually recording || fail "the recorder does not start"
  [ -e "$RECORDER/backing" ] || { cat "$T/recorder.log" >&2; fail "the recorder"; }
}
stop_recorder() {
  eventually no_recorder || fail "$RECORDER stays mounted: $(cat "$T/err")"
  wait $recorder || { cat "$T/recorder.log" >&2; fail "the recorder"; }
}

# Mounts the filesystem of the logical device `dev`; its discards reach the backing too.
mount_filesystem() {  # FILESYSTEM
  attach "$MNT/dev"
  mount -t "$1" -o discard "$LOOP" "$FS" || fail "$1 cannot be mounted"
}

no_mount() { ! mounted_at "$FS" || umount "$FS" 2>"$T/err"; }
not_attached() { [ -z "$(losetup -j "$MNT/dev" 2>/dev/null)" ]; }
unmount_filesystem() {
  eventually no_mount || fail "$FS stays mounted: $(cat "$T/err")"
  detach "$LOOP"
  eventually not_attached || fail "$LOOP stays attached"
}

#!/usr/bin/env bash
# The daemon is killed under a filesystem that is worked hard, again and again: with the cache kept, all that was
# fsynced is there with its content, and the filesystem check is clean. The backing has a volatile cache, which is lost.
#
# usage: kept.sh [-k KILLS] [-f "FILESYSTEM..."] [-o OPERATIONS] [-s SEED]
#
# KILLS are made on each filesystem, each after a number of fsynced operations that is drawn up to OPERATIONS; every
# other one on a medium of which libpmem2 was told that it keeps cache lines.
. "$(dirname "$0")/witness.bash"

kills=4 filesystems="ext4 xfs" operations=150 seed=$RANDOM
while getopts k:f:o:s: option; do
  case $option in
    k) kills=$OPTARG ;;
    f) filesystems=$OPTARG ;;
    o) operations=$OPTARG ;;
    s) seed=$OPTARG ;;
    *) fail "usage: see the top of $0" ;;
  esac
done
for filesystem in $filesystems; do need_filesystem "$filesystem"; done
say "seed $seed"
RANDOM=$seed

mounted() { timeout 120 "$PCACHEFS" mount "$MNT" --cache "$SHM/cache" -o dirty_max_age=100,epoch_max_ms=100; }
dead() { ! kill -0 "$pid" 2>/dev/null; }
healthy() {
  [ "$(stat_of dev state)" = '"running"' ] || fail "state $(stat_of dev state): $(stat_of dev detail)"
  [ "$(stat_of dev lost_bytes)" -eq 0 ] || fail "lost bytes"
  [ "$(stat_of dev checksum_errors)" -eq 0 ] || fail "checksum errors"
}
check_filesystem() {  # FILESYSTEM FILE OPTIONS...
  case $1 in
    ext4) e2fsck -fn "$2" ;;
    xfs) xfs_repair -n "${@:3}" "$2" ;;
  esac >"$T/out" 2>&1 || { cat "$T/out" >&2; fail "$1 is damaged"; }
}

for filesystem in $filesystems; do
  rm -f "$SHM/cache"
  make_filesystem "$filesystem" "$WORK/image"
  unset PMEM2_FORCE_GRANULARITY
  p format "$SHM/cache" --size 64M
  mounted
  rm -f "$WORK/recording"
  start_recorder "$WORK/image" "$WORK/recording"
  p add dev "$RECORDER/backing"
  mount_filesystem "$filesystem"
  for kill in $(seq "$kills"); do
    count=$((RANDOM % operations + 1))
    granularity=$(p status --json | jq -r '.cache_devs[0].granularity')
    say "$filesystem, kill $kill, after $count operations, granularity $granularity"
    pid=$(daemon_pid "$MNT")
    [ -n "$pid" ] || fail "no daemon"
    journal=$T/$filesystem.$kill
    timeout 600 python3 -B "$HERE/load.py" "$FS" "$journal" "$count" $((seed + kill)) "$pid" || fail "the load"
    eventually dead || fail "the killed daemon lives on"
    unmount_filesystem
    timeout 120 "$PCACHEFS" umount "$MNT"
    # What the dead daemon had sent is under way until its lock is gone.
    flock -w 120 "$RECORDER/backing" true || fail "the backing stays locked"
    echo $((seed + kill)) >>"$RECORDER/cut"  # without truncating

    if [ -v PMEM2_FORCE_GRANULARITY ]; then
      unset PMEM2_FORCE_GRANULARITY
    else
      export PMEM2_FORCE_GRANULARITY=CACHE_LINE
    fi
    mounted
    healthy
    mount_filesystem "$filesystem"
    py oracle.py "$FS" "$T/$filesystem".* || fail "what was fsynced is missing or wrong"
    unmount_filesystem
    check_filesystem "$filesystem" "$MNT/dev" -f
    mount_filesystem "$filesystem"
    # Room for the next: the files of the last kill and of this one stay.
    old=$FS/$filesystem.$((kill - 1))
    rm -rf "$old" "$old.noise" "$T/${old##*/}"
  done
  unmount_filesystem
  healthy
  p remove dev
  p umount "$MNT"
  stop_recorder
  say "$filesystem from the backing alone"
  check_filesystem "$filesystem" "$WORK/image" -f
done

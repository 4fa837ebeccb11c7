#!/usr/bin/env bash
# The backing as a witness: what reaches it while a filesystem is worked hard is recorded. With the cache thrown away,
# the backing as of each flush, and what a power cut may leave in between, is a sound filesystem that holds what it
# must.
#
# usage: witness.sh -f ext4|xfs [-p POINTS] [-b BETWEENS] [-o OPERATIONS] [-s SEED]
#
# Looks at POINTS of the recorded flushes, evenly spread (500+: at all of them, at least 500), and at up to BETWEENS
# states in between, at least POINTS. OPERATIONS is how many operations are fsynced: four may share a flush. After a
# failure the recording is kept, and the command that looks at its states again is printed.
. "$(dirname "$0")/witness.bash"

filesystem=ext4 points=60 betweens=120 operations=300 seed=$RANDOM
while getopts f:p:b:o:s: option; do
  case $option in
    f) filesystem=$OPTARG ;;
    p) points=$OPTARG ;;
    b) betweens=$OPTARG ;;
    o) operations=$OPTARG ;;
    s) seed=$OPTARG ;;
    *) fail "usage: see the top of $0" ;;
  esac
done
need_filesystem "$filesystem"
replay=$WITNESS_TOOLS/witness_replay
say "$filesystem, $operations operations, seed $seed"

make_filesystem "$filesystem" "$WORK/image"
cp --sparse=always "$WORK/image" "$WORK/base"
start_recorder "$WORK/image" "$WORK/recording"

# Short epochs that wait a little, so that blocks are overwritten while an older value of theirs is still to be written.
p format "$SHM/cache" --size 64M
p mount "$MNT" --cache "$SHM/cache" -o dirty_max_age=100,epoch_max_ms=100
p add dev "$RECORDER/backing"
mount_filesystem "$filesystem"
timeout 1200 python3 -B "$HERE/load.py" "$FS" "$T/journal" "$operations" "$seed" || fail "the load"
unmount_filesystem
p remove dev
p umount "$MNT"
stop_recorder

look() {
  py states.py "$filesystem" "$replay" "$WORK/recording" "$WORK/base" "$T/journal" "$WORK" "$points" "$betweens" "$seed"
}
mounts+=("$WORK/state")
if ! look; then
  kept=$(mktemp -d /tmp/pcachefs-witness-XXXXXX)
  cp --sparse=always "$WORK/recording" "$WORK/base" "$T/journal" "$kept"
  echo "again: mkdir -p $kept/work && python3 -B $HERE/states.py $filesystem $replay $kept/recording $kept/base" \
       "$kept/journal $kept/work $points $betweens $seed [NUMBER]" >&2
  fail "the backing alone is not what it has to be; the recording is in $kept"
fi

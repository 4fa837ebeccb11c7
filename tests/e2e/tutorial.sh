#!/usr/bin/env bash
# Every command of docs/tutorial.md, as it stands there. The places that it names are empty ones that only this test sees.
. "$(dirname "$0")/lib.sh"

root=$(cd "$(dirname "$0")/../.." && pwd)
python3 "$root/tests/tutorial/run.py" --self-test >"$T/out" || { cat "$T/out"; fail "the self test"; }
[ -e /dev/loop-control ] || skip "no loop devices"
mkdir "$T/bin"
ln -s "$(realpath "$PCACHEFS")" "$T/bin/pcachefs"
mkdir -p /srv /mnt
PATH=$T/bin:$PATH unshare --mount --propagation private bash -c '
  unset PCACHEFS_RUN_DIR PCACHEFS_CONFIG_DIR
  mkdir -p /run/pcachefs
  for place in /srv /mnt /dev/shm /run/pcachefs; do mount -t tmpfs -o mode=755 tmpfs $place || exit 1; done
  python3 "$1" "$2"
  status=$?
  if [ $status -ne 0 ]; then  # take down what is left
    umount /mnt/tutorial-fs
    [ ! -e /srv/tutorial/loop ] || losetup -d "$(cat /srv/tutorial/loop)"
    pcachefs umount /mnt/tutorial
  fi 2>/dev/null
  left=$(ls -A /srv /mnt /dev/shm /run/pcachefs | grep -v ":$" | grep .)
  [ $status -ne 0 ] || [ -z "$left" ] || { echo "this is left: $left"; status=1; }
  exit $status
' bash "$root/tests/tutorial/run.py" "$root/docs/tutorial.md"

#!/bin/sh
# Before removal: services end in order, which loses nothing; for any other mount the daemon's files have to stay.
set -e
[ "$1" = remove ] || exit 0  # an upgrade leaves mounts as they are
if [ -d /run/systemd/system ]; then systemctl stop 'pcachefs@*.service'; fi
[ -r /proc/self/mounts ] || exit 0
mounted=
while read -r _ point type _; do
  [ "$type" = fuse.pcachefs ] || continue
  [ -n "$mounted" ] || echo "pcachefs is not removed while it is mounted; take it down first:" >&2
  mounted=1
  printf '  pcachefs umount %b\n' "$point" >&2  # a space is \040 there
done </proc/self/mounts
[ -z "$mounted" ]

#!/bin/sh
# After installation: a running systemd learns of the unit. Mounts go on with the daemon that they have.
set -e
if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
[ "$1" = configure ] && [ -n "$2" ] && [ -r /proc/self/mounts ] || exit 0
while read -r _ point type _; do
  [ "$type" = fuse.pcachefs ] || continue
  printf '%b goes on with pcachefs %s until it is mounted anew\n' "$point" "$2"
done </proc/self/mounts

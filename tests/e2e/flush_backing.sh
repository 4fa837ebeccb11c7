#!/usr/bin/env bash
# After flush the backing alone holds everything, also when there is more than the cache holds.
. "$(dirname "$0")/lib.sh"

simple_setup 192M -o dirty_max_age=60000
for megabytes in 8 190; do
  say "$megabytes MiB"
  head -c $((megabytes << 20)) /dev/urandom >"$T/data"
  dd if="$T/data" of="$MNT/dev" bs=1M conv=notrunc status=none
  if [ $megabytes -eq 8 ]; then
    [ "$(stat_of dev dirty_bytes)" -gt 0 ] || fail "nothing is dirty, so flush has nothing to show"
    if cmp -s -n $((megabytes << 20)) "$T/data" "$T/backing"; then fail "the backing has it before flush"; fi
  fi
  p flush dev
  [ "$(stat_of dev dirty_bytes)" -eq 0 ] || fail "dirty after flush"
  cmp -n $((megabytes << 20)) "$T/data" "$T/backing"
  cmp "$MNT/dev" "$T/backing"
done
say "through a loop device"
attach "$MNT/dev"
head -c 5000000 /dev/urandom >"$T/data"
dd if="$T/data" of="$LOOP" bs=64k seek=100 conv=fsync status=none
detach "$LOOP"
p flush dev
cmp -n 5000000 -i 0:$((6400 << 10)) "$T/data" "$T/backing"

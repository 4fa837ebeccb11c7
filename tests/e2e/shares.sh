#!/usr/bin/env bash
# Two logical devices on one cache device: an idle one gives its space to a busy one, but for its share_min; share_max is
# kept to, live; `status` and `stats` show what each has; what all keep to themselves is summed up.
. "$(dirname "$0")/lib.sh"

MIB=$((1 << 20))
truncate -s 128M "$T/a" "$T/b"
p format "$SHM/cache" --size 64M
p mount "$MNT" --cache "$SHM/cache"
p add a "$T/a"
p add b "$T/b"
total=$(p status --json | jq '.cache_devs[0].segments * .cache_devs[0].segment_size_bytes')
used() { stat_of "$1" used_bytes; }
fill() { dd if=/dev/urandom of="$MNT/$1" bs=1M count="$2" conv=notrunc status=none && p drain "$1" >/dev/null; }
# Reclaim goes on in the background.
await() {
  for _ in $(seq 600); do if "$@"; then return 0; fi; sleep 0.1; done
  fail "never: $* (a has $(used a), b has $(used b))"
}
has_at_most() { [ "$(used "$1")" -le "$2" ]; }
has_at_least() { [ "$(used "$1")" -ge "$2" ]; }

say "an idle device gives its space to a busy one"
fill a 48
has_at_least a $((40 * MIB)) || fail "a has $(used a)"
fill b 100
has_at_least b $((40 * MIB)) || fail "b has $(used b) after writing 100 MiB"
has_at_most a $((20 * MIB)) || fail "a still has $(used a)"

say "share_min is kept"
p set a share_min=30%
fill a 48
fill b 100
fill b 100
has_at_least a $((total * 30 / 100)) || fail "a has $(used a), less than its share_min"
cmp -n $((48 * MIB)) "$MNT/a" "$T/a"

say "share_max is kept to, also by a device that has more when it is set"
p set a share_min=0%
fill b 100
has_at_least b $((40 * MIB)) || fail "b has $(used b)"
p set b share_max=25%
await has_at_most b $((total / 4))
for _ in 1 2 3; do
  fill b 60
  has_at_most b $((total / 4)) || fail "b has $(used b), more than its share_max"
done
fill a 60
has_at_least a $((36 * MIB)) || fail "a has only $(used a)"
[ "$(p stats b --json | jq "[.. | .used_bytes? // empty] | first")" -eq "$(used b)" ] || fail "stats and status differ"
cmp -n $((60 * MIB)) "$MNT/b" "$T/b"

say "what all keep to themselves is summed up"
p set a share_min=50%
p set b share_max=100%
expect_exit 2 p set b share_min=50%
grep -q share_min "$T/err" || fail "$(cat "$T/err")"
truncate -s 16M "$T/c"
expect_exit 2 p add c "$T/c" -o share_min=50%
p umount "$MNT"
expect_exit 2 p mount "$MNT" --cache "$SHM/cache" -o share_min=50%
grep -q share_min "$T/err" || fail "$(cat "$T/err")"
p mount "$MNT" --cache "$SHM/cache" -o share_min=20%
[ "$(p status --json | jq '.logic_devs | length')" -eq 2 ] || fail "not both are there"
cmp -n $((60 * MIB)) "$MNT/b" "$T/b"

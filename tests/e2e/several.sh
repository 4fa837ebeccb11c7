#!/usr/bin/env bash
# Two cache devices with two logical devices each in one mount, and each cache device on its own.
. "$(dirname "$0")/lib.sh"

say "which cache device has to be said"
for c in one two; do p format "$SHM/$c" --size 64M --label "cache-$c"; done
for b in a b c d; do truncate -s 32M "$T/$b"; done
p mount "$MNT" --cache "$SHM/one" --cache "$SHM/two" -o dirty_max_age=60000
[ "$(p status --json | jq -c '[.cache_devs[].label] | sort')" = '["cache-one","cache-two"]' ] || fail "$(p status)"
expect_exit 2 p add a "$T/a"
grep -q -- "--cache" "$T/err" || fail "the refusal names no way out: $(cat "$T/err")"
expect_exit 3 p add a "$T/a" --cache cache-three
[ -z "$(ls "$MNT")" ] || fail "a refused device is there"

p add a "$T/a" --cache cache-one
p add c "$T/c" --cache cache-two
p add b "$T/b" --cache cache-one
p add d "$T/d" --cache cache-two
[ "$(p status --json | jq -r '[.logic_devs[] | .name + "=" + .cache_dev] | sort | join(" ")')" = \
  "a=cache-one b=cache-one c=cache-two d=cache-two" ] || fail "$(p status)"
expect_exit 4 p add a2 "$T/a" --cache cache-two   # the backing is another cache device's

say "all four hold their own"
for d in a b c d; do
  head -c $((10 << 20)) /dev/urandom >"$T/data.$d"
  dd if="$T/data.$d" of="$MNT/$d" bs=256k conv=notrunc status=none &
done
wait
check() { for d in "$@"; do cmp -n $((10 << 20)) "$T/data.$d" "$MNT/$d" || fail "$d has changed"; done; }
check a b c d
for d in a b c d; do [ "$(stat_of $d dirty_bytes)" -eq $((10 << 20)) ] || fail "$d: $(stat_of $d dirty_bytes) dirty"; done
inodes=$(stat -c '%n %i' "$MNT"/? | sort)
[ "$(stat -c %i "$MNT"/? | sort -u | wc -l)" -eq 4 ] || fail "inode numbers are not unique: $inodes"

say "a flush of one leaves the others dirty"
p flush a
for d in b c d; do [ "$(stat_of $d dirty_bytes)" -eq $((10 << 20)) ] || fail "$d: $(stat_of $d dirty_bytes) dirty"; done
cmp "$MNT/a" "$T/a"

say "settings, one at a time and for one logical device"
of() { p get "$1" "$2" --json | jq -r '.settings[0] | "\(.value) \(.origin)"'; }
[ "$(of b dirty_max_age)" = "60000 mount" ] || fail "$(p get b)"
p set b dirty_max_age=2m full_max_wait=3s
[ "$(of b dirty_max_age) $(of b full_max_wait)" = "120000 stored 3000 stored" ] || fail "$(p get b)"
[ "$(of c full_max_wait)" = "60000 default" ] || fail "$(p get c)"
[ "$(p get b full_max_wait -H)" = $'full_max_wait\t3000\tstored' ] || fail "$(p get b full_max_wait)"
expect_exit 2 p set b full_max_wait=soon
expect_exit 2 p set b nonsense=1
expect_exit 2 p set b
expect_exit 2 p get b nonsense
expect_exit 3 p set nosuch full_max_wait=3s
expect_exit 3 p get nosuch
expect_exit 2 p add e "$T/data.a" --cache cache-one -o full_max_wait=soon
[ "$(of b full_max_wait)" = "3000 stored" ] || fail "$(p get b)"

say "statistics, and beginning anew"
[ "$(p stats b --json | jq '.logic_dev.write_bytes')" -eq $((10 << 20)) ] || fail "$(p stats b)"
[ "$(p stats b --reset --json | jq '.logic_dev.write_bytes')" -eq $((10 << 20)) ] || fail "$(p stats b)"
[ "$(p stats b --json | jq '.logic_dev.write_bytes')" -eq 0 ] || fail "$(p stats b)"
[ "$(stat_of b write_bytes)" -eq $((10 << 20)) ] || fail "status was reset too: $(p status b)"
dd if="$T/data.b" of="$MNT/b" bs=4k count=256 conv=notrunc status=none
p stats b --hist >"$T/out"
grep -qE '^ +write +[1-9]' "$T/out" && grep -qE 'below .* #+$' "$T/out" || fail "no write was measured: $(cat "$T/out")"
expect_exit 3 p stats nosuch

say "a third one comes and goes while the others are in use"
expect_exit 3 p register "$SHM/third"                  # nothing is formatted unasked
expect_exit 4 p register "$SHM/one"                    # it is in use, by this mount
p register "$SHM/third" --format --size 64M --label cache-three
[ "$(p status --json | jq -c '[.cache_devs[] | "\(.cache_dev_id) \(.label)"]')" = \
  '["0 cache-one","1 cache-two","2 cache-three"]' ] || fail "$(p status)"
truncate -s 8M "$T/e"
p add e "$T/e" --cache cache-three
expect_exit 4 p unregister cache-three
echo kept | dd of="$MNT/e" conv=notrunc status=none
p remove e --no-flush
expect_exit 5 p unregister cache-three
p unregister --no-flush cache-three
expect_exit 3 p unregister cache-three
check a b c d
p register "$SHM/third"
p add e "$T/e" --cache cache-three
[ "$(head -c 4 "$MNT/e")" = kept ] || fail "e has lost what was kept"
p remove e
expect_exit 4 p register "$SHM/one" --format --force
p unregister "$SHM/third"
p check "$SHM/third" >"$T/out"

say "both, in the other order"
p umount "$MNT"
p mount "$MNT" --cache "$SHM/two" --cache "$SHM/one" -o dirty_max_age=60000
check a b c d
[ "$(stat -c '%n %i' "$MNT"/? | sort)" = "$inodes" ] || fail "inode numbers changed from $inodes"
p umount "$MNT"

say "one alone"
p mount "$MNT" --cache "$SHM/two" -o dirty_max_age=60000
[ "$(ls "$MNT" | tr '\n' ' ')" = "c d " ] || fail "the mount shows: $(ls "$MNT")"
check c d
expect_exit 3 p status a
say "the other in a mount of its own"
mkdir "$T/mnt2"
points+=("$T/mnt2")
expect_exit 4 p mount "$T/mnt2" --cache "$SHM/two"   # in use
p mount "$T/mnt2" --cache "$SHM/one"
[ "$(ls "$T/mnt2" | tr '\n' ' ')" = "a b " ] || fail "the mount shows: $(ls "$T/mnt2")"
expect_exit 2 p status
expect_exit 2 p flush a
p flush a --mount "$T/mnt2"
p --mount "$MNT" flush c
expect_exit 3 p flush a --mount "$MNT"
expect_exit 4 p add stolen "$T/b" --mount "$MNT"   # in use by the other daemon
p umount "$T/mnt2"
p remove d
p umount "$MNT"

say "both again: what was removed stays away"
p mount "$MNT" --cache "$SHM/one" --cache "$SHM/two"
[ "$(ls "$MNT" | tr '\n' ' ')" = "a b c " ] || fail "the mount shows: $(ls "$MNT")"
check a b c
cmp -n $((10 << 20)) "$T/data.d" "$T/d"
for d in a b c; do p flush $d; cmp "$MNT/$d" "$T/$d"; done
p umount "$MNT"

say "two cache devices of one label do not go together, and nothing of either is lost"
p format "$SHM/three" --size 64M --label cache-one
expect_exit 2 p mount "$MNT" --cache "$SHM/one" --cache "$SHM/three"
p mount "$MNT" --cache "$SHM/one"
check a b
p umount "$MNT"

#!/usr/bin/env bash
# A cache device or a backing that is gone takes down its own logical devices only; they answer EIO, and come back with it.
. "$(dirname "$0")/lib.sh"

for c in one two; do p format "$SHM/$c" --size 32M --label $c; done
for b in a b c; do head -c $((8 << 20)) /dev/urandom >"$T/$b"; done
options=(--cache "$SHM/one" --cache "$SHM/two" -o dirty_max_age=600000)
p mount "$MNT" "${options[@]}"
p add a "$T/a" --cache one
p add b "$T/b" --cache one
p add c "$T/c" --cache two
head -c $((1 << 20)) /dev/urandom >"$T/data"
write() { dd if="$T/data" of="$MNT/$1" bs=256k conv=notrunc,fsync status=none; }
holds_data() { cmp -n $((1 << 20)) "$T/data" "$MNT/$1" || fail "$1 has changed: $2"; }
state_becomes() {  # NAME STATE
  for _ in $(seq 1200); do [ "$(stat_of "$1" state | jq -r .)" != "$2" ] || return 0; sleep 0.1; done
  fail "$1 is $(stat_of "$1" state), not $2: $(stat_of "$1" detail)"
}
for d in a b c; do write $d; done

say "a cache device is truncated"
cp "$SHM/one" "$T/kept"
truncate -s 4096 "$SHM/one"
for d in a b; do
  state_becomes $d failed
  if dd if="$MNT/$d" of=/dev/null bs=4096 count=1 status=none 2>"$T/err"; then fail "$d can be read"; fi
  grep -q "Input/output error" "$T/err" || fail "$d: $(cat "$T/err")"
  if dd if=/dev/zero of="$MNT/$d" bs=4096 count=1 seek=1000 conv=notrunc status=none 2>"$T/err"; then fail "$d takes writes"; fi
  [ "$(stat -c %s "$MNT/$d")" -eq $((8 << 20)) ] || fail "$d has lost its size"
done
[ "$(p status --json | jq -r '[.cache_devs[] | .label + "=" + .state] | sort | join(" ")')" = "one=failed two=running" ] ||
  fail "$(p status)"
p status | grep -q "FAILED: $SHM/one" || fail "$(p status)"
holds_data c "the other cache device's"
write c
p flush c
cmp -n $((1 << 20)) "$T/data" "$T/c" || fail "c is not written back"
p umount "$MNT"

say "it is mounted again once it is whole"
cat "$T/kept" >"$SHM/one"
p mount "$MNT" "${options[@]}"
for d in a b c; do
  [ "$(stat_of $d state)" = '"running"' ] || fail "$d: $(stat_of $d detail)"
  holds_data $d "after its cache device came back"
done

say "a backing is missing, and comes back"
p umount "$MNT"
mv "$T/a" "$T/away"
p mount "$MNT" "${options[@]}"
[ "$(stat_of a state)" = '"no_backing"' ] || fail "a is $(stat_of a state)"
[ ! -e "$MNT/a" ] || fail "a is exposed"
expect_exit 3 p attach a
holds_data b "beside one without a backing"
mv "$T/away" "$T/a"
state_becomes a running
holds_data a "after its backing came back"

say "a backing is truncated in use, and restored"
cp "$T/b" "$T/kept"
truncate -s 4M "$T/b"
expect_exit 1 p flush b
expect_exit 1 p attach b
holds_data b "what is cached can still be read"
cat "$T/kept" >"$T/b"
expect_exit 1 p flush b
expect_exit 0 p attach b
holds_data b "after it was attached again"
for d in a b; do
  p flush $d
  cmp "$MNT/$d" "$T/$d" || fail "$d and its backing differ"
done
expect_exit 3 p attach none

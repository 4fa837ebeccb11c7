#!/usr/bin/env bash
# What `pcachefs format` and the command line itself refuse: with which exit code, and that nothing is lost by it.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/bad_input.bash"

none=$SHM/none
blank=$SHM/blank
fresh() {  # so that a check does not stand on what one before it has spoilt
  rm -f "$none" "$blank" "$SHM/cache"
  truncate -s 8M "$blank"
  p format "$SHM/cache" --size 8M
}
fresh
watched=("$none" "$blank" "$SHM/cache")

say "words that are no command and no option"
expect_error 2 frobnicate p frobnicate
expect_error 2 subcommand p
expect_error 2 --frobnicate p --frobnicate
expect_error 2 --frobnicate p format "$none" --size 16M --frobnicate
expect_error 2 --frobnicate p status --frobnicate
expect_error 2 surplus p format "$none" surplus --size 16M
expect_error 2 CACHE p format
expect_error 2 CACHE p format --size 16M
expect_error 2 --size p format "$none" --size

say "sizes that are none"
for size in 0 -1 1.5.2G 99999E '' ' ' 1. 1.5 1e9 0x1000000 16MM M $'8M\n'; do
  for option in --size --segment-size; do
    named="'${size%?}.? *'|$option"
    expect_error 2 "$named" p format "$none" --size 8M "$option" "$size"
    expect_error 2 "$named" p format "$blank" "$option=$size"
    expect_error 2 "$named" p format "$SHM/cache" --force "$option=$size"
  done
done
expect_error 2 '31m8M' p format "$none" --size $'\e[31m8M'

say "sizes that cannot be"
for size in 1 4K 1M 2M 8388609; do
  fresh
  expect_error 2 "$none" p format "$none" --size "$size"
  expect_error 2 "$blank" p format "$blank" --size "$size"
  expect_error 2 "$SHM/cache" p format "$SHM/cache" --size "$size" --force
done
for size in 100T 7E; do
  fresh
  expect_error 1 "$none" p format "$none" --size "$size"
  expect_error 1 "$blank" p format "$blank" --size "$size"
  expect_error 1 "$SHM/cache" p format "$SHM/cache" --size "$size" --force
done
fresh
for size in 4K 128K 3M 128M 1G; do
  expect_error 2 "segment size of" p format "$none" --size 8M --segment-size "$size"
  expect_error 2 "segment size of" p format "$SHM/cache" --force --segment-size "$size"
done
for size in 4M 64M; do  # allowed, and too large for this file
  fresh
  expect_error 2 "$none" p format "$none" --size 8M --segment-size "$size"
  expect_error 2 "$blank" p format "$blank" --segment-size "$size"
  expect_error 2 "$SHM/cache" p format "$SHM/cache" --force --segment-size "$size"
done

say "labels"
fresh
long=$(printf 'l%.0s' $(seq 64))
expect_error 2 "a/b" p format "$none" --size 8M --label a/b
expect_error 2 "a b" p format "$none" --size 8M --label "a b"
expect_error 2 "64 characters" p format "$none" --size 8M --label "$long"
expect_error 2 "label" p format "$none" --size 8M --label $'a\eb'
expect_error 2 "label" p format "$SHM/cache" --force --label $'a\nb'

say "paths that cannot be a cache device"
mkdir "$SHM/dir"
mkfifo "$SHM/pipe"
ln -s "$SHM/nowhere/x" "$SHM/dangling"
: >"$SHM/empty"
watched=("$none" "$SHM/dir" "$SHM/pipe" "$SHM/empty" "$SHM/nowhere")
expect_error 2 "$none.*--size" p format "$none"
expect_error 2 "$SHM/empty.*--size" p format "$SHM/empty"
expect_error 3 "$SHM/nowhere/cache" p format "$SHM/nowhere/cache" --size 8M
expect_error 2 "$SHM/dir" p format "$SHM/dir"
expect_error 2 "$SHM/dir" p format "$SHM/dir" --size 8M --force
expect_error 2 "$SHM/pipe" p format "$SHM/pipe" --force
expect_error 2 /dev/null p format /dev/null --force --discard-dirty
expect_error 2 /dev/null p format /dev/null --size 8M
# Which of not_found and busy it is, is a matter of taste; that nothing is made at the link's end is not.
format_dangling() { (expect_exit "$1" p format "$SHM/dangling" --size 8M); }
if format_dangling 3 2>/dev/null || format_dangling 4; then
  [ ! -e "$SHM/nowhere" ] || wrong "the end of a dangling link was made"
else
  wrong "a dangling link was formatted, or not refused in one line"
fi
if have_loops "a block device as a cache device"; then
  truncate -s 8M "$T/disk"
  attach "$T/disk"
  watched=("$T/disk")
  expect_error 2 "$LOOP" p format "$LOOP"
  expect_error 2 "$LOOP" p format "$LOOP" --force --discard-dirty
  let_go "$LOOP"
fi

say "whatever holds something is not overwritten without --force"
held=()
make() { held+=("$SHM/$1"); truncate -s 8M "$SHM/$1"; }
make data-first; printf x | dd of="$SHM/data-first" conv=notrunc status=none
make data-last; printf x | dd of="$SHM/data-last" bs=1 seek=$(((8 << 20) - 1)) conv=notrunc status=none
make ext4; mkfs.ext4 -q "$SHM/ext4"
make swap; mkswap "$SHM/swap" >/dev/null
if command -v sfdisk >/dev/null; then
  make table; echo 'label: gpt' | sfdisk -q "$SHM/table" >/dev/null 2>&1
else
  say "left out: a partition table, as there is no sfdisk"
fi
chmod 600 "${held[@]}"
# Files that no cache device could be, as their size is not a multiple of the page's, hold data all the same.
held+=("$SHM/letter" "$SHM/archive")
echo "Dear Sir or Madam" >"$SHM/letter"
head -c 3000001 /dev/urandom >"$SHM/archive"
watched=("${held[@]}")
for file in "${held[@]}"; do
  expect_error 4 "$file.*--force" p format "$file"
  expect_error 4 "$file.*--force" p format "$file" --size 8M
  expect_error 4 "$file.*--force" p format "$file" --discard-dirty
done
for kind in ext4 swap; do
  expect_exit 4 p format "$SHM/$kind"
  grep -q "$kind" "$T/err" || wrong "it does not say what is there: $(cat "$T/err")"
done
say "with --force it is"
for file in "${held[@]}"; do
  (expect_exit 0 p format "$file" --size 8M --force) || wrong "$file was not formatted"
  check $((8 << 20)) "$(stat -c %s "$file")" "the size of $file"
done

say "a cache device is not overwritten without --force, one in use not even with it"
fresh
watched=("$SHM/cache")
expect_error 4 "$SHM/cache.*--force" p format "$SHM/cache"
expect_error 4 "$SHM/cache.*--force" p format "$SHM/cache" --size 16M
try_locked() {
  expect_error 4 "$SHM/cache.*in use" p format "$SHM/cache"
  expect_error 4 "$SHM/cache.*in use" p format "$SHM/cache" --force --discard-dirty
  expect_error 4 "$SHM/cache.*in use" p format "$SHM/cache" --force --discard-dirty --size 6M
}
locked "$SHM/cache" try_locked

truncate -s 32M "$T/backing"
p mount "$MNT" --cache "$SHM/cache" -o dirty_max_age=86400000
p add dev "$T/backing"
head -c 3000000 /dev/urandom >"$T/data"
dd if="$T/data" of="$MNT/dev" bs=1M conv=notrunc,fsync status=none
watched=("$T/backing")
watched_mount=$MNT
try_locked
expect_error 4 "$T/backing" p format "$T/backing"
expect_error 4 "$T/backing.*in use" p format "$T/backing" --force --discard-dirty
cmp -n 3000000 "$T/data" "$MNT/dev" || wrong "what was written has changed"
watched_mount=
p umount "$MNT"

say "dirty data is not given up by --force"
cp "$SHM/cache" "$SHM/dirty"
still_there() {
  if ! (expect_exit 0 p mount "$MNT" --cache "$SHM/cache" -o dirty_max_age=86400000); then
    wrong "the cache device cannot be mounted any more"
    return
  fi
  check $((733 * 4096)) "$(stat_of dev dirty_bytes)" "what is dirty"
  cmp -n 3000000 "$T/data" "$MNT/dev" || wrong "what was written has changed"
  p umount "$MNT"
}
watched=("$SHM/cache" "$T/backing")
expect_error 4 "$SHM/cache.*--force" p format "$SHM/cache"
expect_error 4 "$SHM/cache.*--force" p format "$SHM/cache" --discard-dirty
expect_error 5 "$SHM/cache.*--discard-dirty" p format "$SHM/cache" --force
expect_error 5 "$SHM/cache.*--discard-dirty" p format "$SHM/cache" --force --size 16M
expect_error 5 "$SHM/cache.*--discard-dirty" p format "$SHM/cache" --force --label other
still_there

say "nor that of a cache device that cannot be read"
for damage in newer damage cut cut-off-page; do
  damaged=$SHM/$damage
  cp "$SHM/dirty" "$damaged"
  case $damage in
    cut) truncate -s 4M "$damaged" ;;
    cut-off-page) truncate -s 4194305 "$damaged" ;;
    *) superblock "$damage" "$damaged" ;;
  esac
  watched=("$damaged")
  expect_error 4 "$damaged" p format "$damaged"
  expect_error 5 "$damaged.*--discard-dirty" p format "$damaged" --force
  expect_error 5 "$damaged.*--discard-dirty" p format "$damaged" --force --size 16M
  (expect_exit 0 p format "$damaged" --force --discard-dirty --size 8M) || wrong "$damaged cannot be formatted anew"
done
still_there

say "--discard-dirty gives it up, but not for what cannot be done"
watched=("$SHM/cache" "$T/backing")
try_on_copy() {
  cp "$SHM/dirty" "$SHM/cache"
  expect_error "$1" "$SHM/cache" p format "$SHM/cache" --force --discard-dirty "${@:2}"
  still_there
}
try_on_copy 2 --size 1M
try_on_copy 2 --segment-size 4M
try_on_copy 1 --size 100T
cp "$SHM/dirty" "$SHM/cache"
expect_exit 0 p format "$SHM/cache" --force --discard-dirty
p mount "$MNT" --cache "$SHM/cache"
check "" "$(ls "$MNT")" "what the mount shows after --discard-dirty"
p umount "$MNT"

say "a clean cache device that fills its filesystem can be formatted anew"
if [ "$(id -u)" -eq 0 ]; then
  mkdir "$T/small"
  mount -t tmpfs -o size=10M none "$T/small"
  mounts+=("$T/small")
  watched=("$T/small/cache")
  p format "$T/small/cache" --size 8M
  expect_error 1 "$T/small/cache" p format "$T/small/cache" --size 16M --force
  rm "$T/small/cache"
  p format "$T/small/cache" --size 8M
  (expect_exit 0 p format "$T/small/cache" --force) || wrong "space that the file has already was taken for missing"
  watched=("$T/small/other")
  expect_error 1 "$T/small/other" p format "$T/small/other" --size 8M
else
  say "left out: as this is not root"
fi

say "another user"
if prepare_nobody; then
  watched=("$SHM/cache" "$none")
  chmod 600 "$SHM/cache"
  expect_error 9 "$SHM/cache" "${NOBODY[@]}" format "$SHM/cache"
  expect_error 9 "$SHM/cache" "${NOBODY[@]}" format "$SHM/cache" --force --discard-dirty
  expect_error 9 "$none" "${NOBODY[@]}" format "$none" --size 8M
  chmod 444 "$SHM/cache"
  expect_error 9 "$SHM/cache" "${NOBODY[@]}" format "$SHM/cache" --force --discard-dirty
fi
finish

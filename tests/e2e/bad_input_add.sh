#!/usr/bin/env bash
# Names and backing devices that cannot be added, and recorded backing devices that are not what they were: what is
# refused, with which exit code, and that dirty data waits until the right backing is back.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/bad_input.bash"

delay=(-o dirty_max_age=86400000)
cache=$SHM/cache
mkdir "$T/b"
backing=$T/b/backing
truncate -s 16M "$backing"
truncate -s 16M "$T/b/free"
p format "$cache" --size 16M
p mount "$MNT" --cache "$cache" "${delay[@]}"
p add dev "$backing"
head -c 1000000 /dev/urandom >"$T/data"
dd if="$T/data" of="$MNT/dev" bs=1M conv=notrunc,fsync status=none
dirty=$((245 * 4096))
check $dirty "$(stat_of dev dirty_bytes)" "what is dirty"
watched=("$backing" "$T/b/free")
watched_mount=$MNT

say "names"
repeat() { printf "$1%.0s" $(seq "$2"); }
expect_error 2 "''" p add '' "$T/b/free"
for name in . .. .pcache a/b / /etc dev/ $'a\tb' $'a\nb' $'\e[31mx' $'a\x7f'; do
  named=$(printf '%s' "$name" | sed 's/[].[]/\\&/g' | LC_ALL=C tr '[:cntrl:]' '*' | sed 's/\*/.*/g')
  expect_error 2 "'$named" p add "$name" "$T/b/free"
done
expect_error 2 "aaaaaaaa.* 300 bytes" p add "$(repeat a 300)" "$T/b/free"
expect_error 2 "aaaaaaaa.* 256 bytes" p add "$(repeat a 256)" "$T/b/free"
expect_error 2 "ä.* 300 bytes" p add "$(repeat ä 150)" "$T/b/free"
expect_error 2 "add.*UTF-8" p add $'a\xff' "$T/b/free"
expect_error 2 '-x|BACKING' p add -x "$T/b/free"
expect_error 4 dev p add dev "$T/b/free"
expect_error 4 dev p add dev "$backing"
expect_error 2 "NAME|BACKING" p add
expect_error 2 BACKING p add dev2
expect_error 2 surplus p add dev2 "$T/b/free" surplus
expect_error 2 --frobnicate p add dev2 "$T/b/free" --frobnicate
expect_error 3 nosuch p add dev2 "$T/b/free" --cache nosuch
expect_error 8 "$T/nowhere" p add dev2 "$T/b/free" --mount "$T/nowhere"

say "the longest name, and unusual ones, are fine"
watched_mount=
for name in "$(repeat a 255)" "$(repeat ä 127)" "a b" ...; do
  if (expect_exit 0 p add "$name" "$T/b/free"); then
    check $((16 << 20)) "$(stat -c %s "$MNT/$name")" "the size of $name"
    p remove "$name"
  else
    wrong "the name '$name' was refused"
  fi
done
watched_mount=$MNT

say "sizes"
for size in 0 -1 1.5.2G 99999E '' 1.5; do
  expect_error 2 "'$size'|--size" p add dev2 "$T/b/free" --size "$size"
  expect_error 2 "'$size'|--size" p add dev2 "$T/b/free" "--size=$size"
done
expect_error 2 "$T/b/free.*16777216" p add dev2 "$T/b/free" --size 8M
expect_error 2 "$T/b/free.*16777216" p add dev2 "$T/b/free" --size 16777217
expect_error 2 "$T/b/free.*16777216" p add dev2 "$T/b/free" --size 7E

say "what cannot be a backing device"
: >"$T/b/empty"
truncate -s 1000 "$T/b/odd"
mkfifo "$T/b/pipe"
ln -s "$T/b/nowhere" "$T/b/dangling"
ln -s loop "$T/b/loop"
watched+=("$T/b/empty" "$T/b/odd" "$T/b/nowhere")
expect_error 3 "$T/b/nowhere" p add dev2 "$T/b/nowhere"
expect_error 3 "$T/b/dangling" p add dev2 "$T/b/dangling"
expect_error 1 "$T/b/loop" p add dev2 "$T/b/loop"
expect_error 1 "$backing/below" p add dev2 "$backing/below"
expect_error 2 "$T/b .*directory" p add dev2 "$T/b"
expect_error 2 /dev/null p add dev2 /dev/null
expect_error 2 "$T/b/pipe" p add dev2 "$T/b/pipe"
expect_error 2 "$T/b/empty.* empty" p add dev2 "$T/b/empty"
expect_error 2 "$T/b/odd.* 512" p add dev2 "$T/b/odd"
expect_error 4 "$cache.*cache device" p add dev2 "$cache"
if (cd "$T/b" && expect_exit 2 p add dev2 ''); then  # not the directory one happens to be in
  grep -Eq 'BACKING|backing' "$T/err" || wrong "the error does not name the backing: $(cat "$T/err")"
else
  wrong "an empty path was not refused as invalid"
fi
expect_error 2 "$T/b .*directory" p add dev2 "$T/b/"
expect_error 2 "add.*UTF-8" p add dev2 "$T/b/"$'\xff'
locked "$T/b/free" expect_error 4 "$T/b/free.*in use" p add dev2 "$T/b/free"

# refused_again PATTERN PATH: whatever attaches a backing a second time is refused; where it is not, it is undone.
refused_again() {
  expect_error 4 "$1" p add again "$2"
  if "$PCACHEFS" status again >/dev/null 2>&1; then p remove again; fi
}

say "what is attached already"
ln "$backing" "$T/b/hard"
ln -s "$backing" "$T/b/soft"
mkdir "$T/elsewhere"
refused_again "$backing.* dev" "$backing"
refused_again "$T/b/hard.* dev" "$T/b/hard"
refused_again "backing.* dev" "$T/b/soft"
refused_again "backing.* dev" "$T/b/../b/./backing"
(cd "$T/b" && "$PCACHEFS" add again backing 2>"$T/err" >"$T/out") && wrong "a relative path attached the backing again"
grep -q "$backing" "$T/err" || wrong "the error does not name $backing: $(cat "$T/err")"
if [ "$(id -u)" -eq 0 ]; then
  mount --bind "$T/b" "$T/elsewhere"
  mounts+=("$T/elsewhere")
  refused_again "$T/elsewhere/backing.* dev" "$T/elsewhere/backing"
  umount "$T/elsewhere"
else
  say "left out: a bind mount, as this is not root"
fi
refused_again "$MNT/dev" "$MNT/dev"  # a cache of itself, which the daemon would hold open against every umount

if have_loops "block devices"; then
  say "block devices: read-only, attached already, mounted, an attached file's"
  attach "$T/b/free"; loop=$LOOP
  watched=("$backing" "$T/b/free")
  ro=$(losetup --find --show --read-only "$T/b/free")
  loops+=("$ro")
  expect_error 9 "$ro" p add dev2 "$ro"
  let_go "$ro"
  locked "$loop" expect_error 4 "$loop.*in use" p add dev2 "$loop"
  mkfs.ext4 -q "$loop"
  mkdir "$T/fs"
  mount "$loop" "$T/fs"
  mounts+=("$T/fs")
  expect_error 4 "$loop.*mounted" p add dev2 "$loop"
  umount "$T/fs"

  p add disk "$loop"
  mknod "$T/b/node" b "$(($(stat -c 0x%t "$loop")))" "$(($(stat -c 0x%T "$loop")))"
  ln -s "$loop" "$T/b/link"
  refused_again "$loop.* disk" "$loop"
  refused_again "$T/b/node.* disk" "$T/b/node"
  refused_again "$T/b/link.* disk" "$T/b/link"
  refused_again "$T/b/free" "$T/b/free"  # the file below the loop device
  p remove disk
  attach "$backing"
  refused_again "$LOOP" "$LOOP"  # a loop device on the attached file
  let_go "$LOOP"
  let_go "$loop"
fi
watched=("$backing" "$T/b/free")
cmp -n 1000000 "$T/data" "$MNT/dev" || wrong "what was written has changed"
p umount "$MNT"

# not_attached PATTERN: mounted, dev is listed without its backing, says why, keeps its dirty data, and what is at the
# recorded path is not touched.
not_attached() {
  local before after
  before=$(watched_mount='' state_of_watched)
  if ! (expect_exit 0 p mount "$MNT" --cache "$cache" "${delay[@]}"); then
    wrong "a cache device whose backing is not there cannot be mounted"
    return
  fi
  check no_backing "$(stat_of dev state | jq -r .)" "the state"
  stat_of dev detail | jq -r . | grep -Eq -- "$1" || wrong "the detail does not name '$1': $(stat_of dev detail)"
  p status dev | grep -Eq -- "$1" || wrong "the detail is not in the status text: $(p status dev)"
  check "" "$(ls -A "$MNT")" "what the mount shows"
  if [ -e "$MNT/dev" ]; then wrong "$MNT/dev is exposed"; fi
  check $dirty "$(stat_of dev dirty_bytes)" "what is dirty"
  watched_mount=$MNT
  expect_error 5 dev p flush dev
  expect_error 5 dev p remove dev
  expect_error 4 dev p add dev "$T/b/free"
  [ -z "${2:-}" ] || refused_again "$2" "$2"
  watched_mount=
  p umount "$MNT"
  expect_error 5 "$cache" p format "$cache" --force
  after=$(state_of_watched)
  check "$before" "$after" "what is at the path of the backing, and where the backing is,"
}

come_back() {
  p mount "$MNT" --cache "$cache" "${delay[@]}"
  check running "$(stat_of dev state | jq -r .)" "the state after it came back"
  check '""' "$(p status dev --json | jq -c '.logic_devs[0].detail')" "the detail after it came back"
  check $dirty "$(stat_of dev dirty_bytes)" "what is dirty after it came back"
  cmp -n 1000000 "$T/data" "$MNT/dev" || wrong "what was written has changed"
  p umount "$MNT"
}

watched_mount=
rm -f "$T/b/hard"
watched=("$backing" "$T/b/aside" "$T/b/free")

say "the backing is missing"
mv "$backing" "$T/b/aside"
not_attached "$backing" "$T/b/aside"
mv "$T/b/aside" "$backing"
come_back

say "the backing has shrunk"
cp "$backing" "$T/b/aside"
truncate -s 8M "$backing"
not_attached "$backing.*8388608.*16777216"
cat "$T/b/aside" >"$backing"
rm "$T/b/aside"
come_back

say "another file of the same size and content is at its path"
mv "$backing" "$T/b/aside"
cp "$T/b/aside" "$backing"
not_attached "$backing.*another" "$T/b/aside"
rm "$backing"
ln -s "$T/b/free" "$backing"
not_attached "$backing.*another" "$T/b/aside"
rm "$backing"
mkdir "$backing"
not_attached "$backing.*directory"
rmdir "$backing"
mkfifo "$backing"
not_attached "$backing"
rm "$backing"
: >"$backing"
not_attached "$backing.*empty"
mv "$T/b/aside" "$backing"
come_back

say "another process has it"
locked "$backing" not_attached "$backing.*in use"
come_back

say "it may not be written"
if [ "$(id -u)" -eq 0 ] && chattr +i "$backing" 2>/dev/null; then
  not_attached "$backing"
  chattr -i "$backing"
  come_back
else
  say "left out: an immutable file, as its filesystem or user cannot make one"
fi

if have_loops "a block device that changed"; then
  say "a loop device: gone, read-only, on another file"
  attach "$T/b/free"; loop=$LOOP
  p format "$SHM/cache2" --size 16M
  p mount "$MNT" --cache "$SHM/cache2" "${delay[@]}"
  p add dev "$loop"
  dd if="$T/data" of="$MNT/dev" bs=1M conv=notrunc,fsync status=none
  p umount "$MNT"
  cache=$SHM/cache2
  watched=("$T/b/free" "$T/b/other")
  on_file() { losetup "$loop" "$@" && loops+=("$loop"); }
  let_go "$loop"
  not_attached "$loop"
  on_file --read-only "$T/b/free"
  not_attached "$loop"
  let_go "$loop"
  cp "$T/b/free" "$T/b/other"
  on_file "$T/b/other"
  not_attached "$loop.*another"
  let_go "$loop"
  on_file "$T/b/free"
  come_back
  cache=$SHM/cache
fi

say "after all that, everything is written back to where it belongs"
p mount "$MNT" --cache "$cache" "${delay[@]}"
p flush dev
cmp -n 1000000 "$T/data" "$backing" || wrong "the backing does not have what was written"
p remove dev
p umount "$MNT"
finish

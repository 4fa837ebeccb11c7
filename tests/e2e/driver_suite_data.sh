#!/usr/bin/env bash
# Scenarios 10, 11, 13, 14, 16 to 18 and 25 to 27 of the kernel driver's suite: data is the same after stopping and
# starting again, in each mode, and with the backing device alone.
. "$(dirname "$0")/driver_suite.bash"

driver_setup 64 256
mkdir "$T/fs"
mount_fs() { attach "$MNT/dev"; mount "$LOOP" "$T/fs"; mounts=("$T/fs"); }
umount_fs() { umount "$T/fs"; detach_and_wait "$LOOP"; }
head -c 10M /dev/urandom >"$T/ten"

say "10: a filesystem keeps its file"
start
mkfs.ext4 -q -E nodiscard "$MNT/dev"
mount_fs
cp "$T/ten" "$T/fs/file"
want=$(sum "$T/ten")
umount_fs
stop
start
mount_fs
[ "$(sum "$T/fs/file")" = "$want" ] || fail "the file has changed"

say "14: what is beside random writes stays"
cp "$T/ten" "$T/fs/beside"
fio --name=w --filename="$T/fs/busy" --size=16M --rw=randwrite --bs=4k --iodepth=16 --numjobs=2 --ioengine=libaio \
  --direct=1 --time_based --runtime=2 --output=/dev/null
umount_fs
stop
start
mount_fs
[ "$(sum "$T/fs/beside")" = "$want" ] || fail "the file has changed"

say "25: several writers at a time"
for i in 1 2 3 4 5; do
  ( for j in 1 2 3; do cp "$T/ten" "$T/fs/c$i"; cp "$T/fs/c$i" "$T/fs/d$i"; mv "$T/fs/d$i" "$T/fs/e$i"; rm "$T/fs/c$i"
    rm "$T/fs/e$i"; done; head -c 1M "$T/ten" >"$T/fs/last$i" ) &
done
wait
say "26: little memory, many small files"
head -c 256M /dev/zero | tail -c 256M >/dev/null &
memory=$!
for round in 1 2 3; do
  for i in $(seq 100); do echo "$round $i" >"$T/fs/small$i"; done
  sync -f "$T/fs"
  [ "$(cat "$T/fs/small100")" = "$round 100" ] || fail "a small file has changed"
  [ $round = 3 ] || rm "$T"/fs/small*
done
wait $memory
umount_fs
attach "$MNT/dev"
e2fsck -fn "$LOOP" >"$T/out" 2>&1 || fail "e2fsck: $(cat "$T/out")"
detach_and_wait "$LOOP"
mount_fs
for i in 1 2 3 4 5; do cmp -n 1048576 "$T/ten" "$T/fs/last$i" || fail "last$i"; done
[ "$(sum "$T/fs/beside")" = "$want" ] || fail "the file has changed"
umount_fs

say "13, 28: cache_gc_percent 0 gives everything back; the backing alone holds the data"
b=${B##*/}
must cache_dev0/"$b"/cache_gc_percent 0
await_value dirty_bytes 0
for _ in $(seq 300); do [ "$(value cache_used_segs)" -le 4 ] && break; sleep 0.1; done
[ "$(value cache_used_segs)" -le 4 ] || fail "$(value cache_used_segs) segments are still used"
all=$(sum "$MNT/dev")
must cache_dev0/"$b"/cache_gc_percent 10
[ "$(sum "$MNT/dev")" = "$all" ] || fail "it reads differently"
stop
[ "$(sum "$T/backing")" = "$all" ] || fail "the backing alone holds other data"
must cache_dev_unregister "cache_dev_id=0"
must cache_dev_register "path=$SHM/cache,format=1,force=1"
start
[ "$(sum "$MNT/dev")" = "$all" ] || fail "with a new cache device it reads differently"
stop

say "11: stopped by force during writes"
start
fio --name=w --filename="$MNT/dev" --rw=randwrite --bs=4k --iodepth=16 --ioengine=libaio --direct=1 --time_based \
  --runtime=5 --size=64M --output=/dev/null 2>/dev/null &
writer=$!
sleep 1
expect_exit 4 p remove dev --discard-dirty
p remove dev --discard-dirty --force
wait $writer && fail "fio noticed nothing"
[ ! -e "$MNT/dev" ] || fail "it is still there"
start
dd if="$T/ten" of="$MNT/dev" bs=1M conv=notrunc status=none
cmp -n 10485760 "$T/ten" "$MNT/dev" || fail "what is written afterwards is not there"
stop

say "16: writethrough has nothing dirty, and the backing alone everything"
start mode=writethrough
head -c 10M /dev/urandom >"$T/data"
dd if="$T/data" of="$MNT/dev" bs=1M conv=notrunc status=none
[ "$(value dirty_bytes)" = 0 ] || fail "$(value dirty_bytes) bytes are dirty"
cmp -n 10485760 "$T/data" "$T/backing" || fail "the backing"
cmp -n 10485760 "$T/data" "$MNT/dev"
stop

say "17, 27: writearound, and what the backing got while it was stopped"
start mode=writearound
head -c 10M /dev/urandom >"$T/data"
dd if="$MNT/dev" of=/dev/null bs=1M count=10 status=none        # cached
dd if="$T/data" of="$MNT/dev" bs=1M conv=notrunc status=none
cmp -n 10485760 "$T/data" "$T/backing" || fail "the backing"
cmp -n 10485760 "$T/data" "$MNT/dev" || fail "it answers with what it had before"
p umount "$MNT"
p mount "$MNT" --cache "$SHM/cache"
cmp -n 10485760 "$T/data" "$MNT/dev" || fail "what was void is back after a restart"
stop
dd if="$T/ten" of="$T/backing" bs=1M conv=notrunc status=none
start mode=writearound
cmp -n 10485760 "$T/ten" "$MNT/dev" || fail "it answers with what the backing had before"
stop

say "18: writeonly keeps no reads"
start mode=writeonly
dd if="$MNT/dev" of=/dev/null bs=1M status=none
[ "$(value cached_bytes)" = 0 ] || fail "$(value cached_bytes) bytes were kept"
dd if="$T/data" of="$MNT/dev" bs=1M conv=notrunc status=none
p drain dev
must cache_dev0/"${B##*/}"/dirty_max_age 24h
stop
cmp -n 10485760 "$T/data" "$T/backing" || fail "the backing"

say "19: what is listed is what was given"
start mode=writearound,cache_size=32,queues=4
[ "$(value mode) $(value share_max) $(value path)" = "writearound 32M $T/backing" ] || fail "$(value share_max)"
p backing-list | jq -e ".[0] | .backing_id == ${B##*backing_dev} and .backing_path == \"$T/backing\" and
  .logic_dev == \"$MNT/dev\" and .cache_segs > 0 and .cache_gc_percent == 100 and has(\"cache_used_segs\")" >/dev/null ||
  fail "$(p backing-list)"
p backing-stop -b "${B##*backing_dev}"
p cache-list | jq -e ".[0] | .cache_id == 0 and .path == \"$SHM/cache\" and .segment_num > 0 and .flags == 0 and
  .version > 0 and (.magic | startswith(\"0x\"))" >/dev/null || fail "$(p cache-list)"
p cache-stop -c 0
p cache-start -p "$SHM/cache"
expect_exit 4 p cache-start -p "$SHM/cache" -f
[ "$(p backing-start -p "$T/backing" -q 4 -s 16M --data-crc)" = "$MNT/pcache0" ] || fail "backing-start"
expect_exit 3 p backing-stop -b 7
expect_exit 3 p cache-stop -c 1
expect_exit 2 p backing-start -p "$T/backing" -q 129
p backing-stop -c 0 -b 0 --json | jq -e '.schema and .state == "done"' >/dev/null || fail "backing-stop has no JSON"
p backing-start -p "$T/backing" --json | jq -e ".schema and .file == \"$MNT/pcache0\"" >/dev/null ||
  fail "backing-start has no JSON"
p backing-stop -c 0 -b 0
p cache-stop --json | jq -e .schema >/dev/null || fail "cache-stop has no JSON"
p cache-start -p "$SHM/cache" --json | jq -e '.schema and .cache_dev_id == 0' >/dev/null || fail "cache-start has no JSON"
p cache-stop
[ "$(p cache-list)" = "[]" ] || fail "$(p cache-list)"

#!/usr/bin/env bash
# Scenarios 01 to 09, 12, 15 and 20 to 24 of the kernel driver's suite: what is given wrong is refused with an errno and
# named, changes nothing, and what is right is remembered.
. "$(dirname "$0")/driver_suite.bash"

say "no cache device: the tree is there, and says so"
p mount "$MNT"
[ -z "$(ls "$MNT")" ] || fail "the mount is not empty"
[ "$(cat "$TREE/version")" = "$(p version | cut -d' ' -f2)" ] || fail "no version"
refused "$INVALID" "'path' is missing" cache_dev_register ""
refused "$INVALID" "'path' has no value" cache_dev_register "path="
refused "$INVALID" "'nonsense'" cache_dev_register "path=/dev/dax0.0,nonsense=1"
refused "$INVALID" "'format'" cache_dev_register "path=/dev/dax0.0,format=yes"
refused "No such file or directory" "$SHM/none" cache_dev_register "path=$SHM/none"
truncate -s 64M "$SHM/cache"
put cache_dev_register "path=$SHM/cache" && fail "what is no cache device was opened unasked"
p umount "$MNT"

driver_setup
[ -z "$(cat "$TREE/last_error")" ] || fail "$(cat "$TREE/last_error")"
grep -q '^segment_num: [1-9]' "$TREE/cache_dev0/info" || fail "$(cat "$TREE/cache_dev0/info")"
[ "$(cat "$TREE/cache_dev0/path")" = "$SHM/cache" ] || fail "path"

say "01, 02: values that there are not"
refused "$INVALID" "'mode'" cache_dev0/adm "op=backing-start,path=$T/backing,mode=fast"
refused "$INVALID" "'data_crc'" cache_dev0/adm "op=backing-start,path=$T/backing,data_crc=maybe"
for queues in 0 129 x; do
  refused "$INVALID" "'queues'" cache_dev0/adm "op=backing-start,path=$T/backing,queues=$queues"
done
say "03, 04: an option without its value"
refused "$INVALID" "'mode' has no value" cache_dev0/adm "op=backing-start,path=$T/backing,mode=,data_crc=1"
refused "$INVALID" "'data_crc' has no value" cache_dev0/adm "op=backing-start,path=$T/backing,mode=writeback,data_crc"
say "08: what is no option at all"
refused "$INVALID" "'INVAL'" cache_dev0/adm "INVAL"
refused "$INVALID" "'100'" cache_dev0/adm "op=backing-start,path=$T/backing,100"
refused "$INVALID" "'op' is" cache_dev0/adm "op=restart,path=$T/backing"
refused "$INVALID" "'backing_id' is missing" cache_dev0/adm "op=backing-stop"
[ "$(ls -d "$TREE"/cache_dev0/backing_dev* 2>/dev/null)" = "" ] || fail "something was started"

say "05, 06, 07: no options, the mode alone, data_crc alone"
must cache_dev0/adm "path=$T/backing"
[ "$(ls "$MNT")" = pcache0 ] || fail "the file is called $(ls "$MNT")"
B=$TREE/cache_dev0/backing_dev0
[ "$(value mode) $(value state) $(value mapped_id)" = "writeback running pcache0" ] || fail "$(value mode)"
stop
start mode=writethrough
await_value mode writethrough
stop
start data_crc=1
[ "$(value mode) $(value path)" = "writeback $T/backing" ] || fail "$(value path)"
refused "Device or resource busy" "already" cache_dev0/adm "op=backing-start,path=$T/backing,name=dev2"
refused "Device or resource busy" "in use" cache_dev_unregister "cache_dev_id=0"

say "09: cache_gc_percent, and an attribute that there is not"
for wrong in 91 -1 "" bad 1.5; do refused "$INVALID" "0 to 90" cache_dev0/"${B##*/}"/cache_gc_percent "$wrong"; done
( echo 1 >"$B/nonsense" ) 2>/dev/null && fail "an attribute was made"
for right in 0 90 10; do
  must cache_dev0/"${B##*/}"/cache_gc_percent "$right"
  [ "$(value cache_gc_percent)" = $right ] || fail "cache_gc_percent is $(value cache_gc_percent)"
done

say "12: data without checksums is refused"
stop
refused "$INVALID" "'data_crc'" cache_dev0/adm "op=backing-start,path=$T/backing,data_crc=0"
say "15: another mode than before is a switch of the mode, with the data kept"
start mode=writeback
head -c 4M /dev/urandom >"$T/data"
dd if="$T/data" of="$MNT/dev" bs=1M conv=notrunc status=none
must cache_dev0/"${B##*/}"/dirty_max_age 24h
p remove dev --no-flush >/dev/null
start mode=writethrough
await_value mode writethrough
cmp -n 4194304 "$T/data" "$MNT/dev" || fail "the data has changed"
cmp -n 4194304 "$T/data" "$T/backing" || fail "writethrough left something dirty"

say "21: cache_gc_percent is remembered"
must cache_dev0/"${B##*/}"/cache_gc_percent 10
p umount "$MNT"
p mount "$MNT"
must cache_dev_register "path=$SHM/cache,format=0,force=0"
[ "$(value cache_gc_percent) $(value mode)" = "10 writethrough" ] || fail "$(value cache_gc_percent) $(value mode)"

say "a cache device with data is not formatted without force, and one in use never"
refused "Device or resource busy" "in use" cache_dev_register "path=$SHM/cache,format=1,force=1"
stop
must cache_dev_unregister "cache_dev_id=0"
put cache_dev_register "path=$SHM/cache,format=1" && fail "it was formatted without force"
must cache_dev_register "path=$SHM/cache,format=1,force=1"
must cache_dev_unregister "cache_dev_id=0"
refused "No such file or directory" "cache_dev_id 0" cache_dev_unregister "cache_dev_id=0"

say "22, 23: a cache device that is too small is refused"
for size in 512K 1M 2M; do
  truncate -s $size "$SHM/small"
  refused "$INVALID" "small" cache_dev_register "path=$SHM/small,format=1,force=1"
  [ "$(stat -c %s "$SHM/small")" = "$(numfmt --from=iec $size)" ] || fail "its size has changed"
  rm "$SHM/small"
done

say "24: a cache device larger than its backing, one of odd size, and nothing to read or write"
truncate -s 1M "$T/backing"
must cache_dev_register "path=$SHM/cache,format=1,force=1"
start
dd if=/dev/zero of="$MNT/dev" count=0 status=none conv=notrunc
dd if="$MNT/dev" of=/dev/null count=0 status=none
head -c 1M "$T/data" | dd of="$MNT/dev" bs=64k conv=notrunc status=none
printf x | dd of="$MNT/dev" bs=1 seek=1048576 conv=notrunc status=none 2>/dev/null && fail "a write past the end"
cmp -n 1048576 "$T/data" "$MNT/dev" || fail "it holds other data"
stop
cmp -n 1048576 "$T/data" "$T/backing" || fail "the backing holds other data"
truncate -s $((64 * 1048576 + 512)) "$SHM/odd"
refused "$INVALID" "multiple" cache_dev_register "path=$SHM/odd,format=1"

say "who may not: EPERM"
must cache_dev_unregister "cache_dev_id=0"
p umount "$MNT"
chmod 755 "$T" "$SHM"
p mount "$MNT" -o allow_other
setpriv --reuid=65534 --clear-groups bash -c "echo path=$SHM/cache >$TREE/cache_dev_register" 2>"$T/err" &&
  fail "nobody registered a cache device"
grep -q "Operation not permitted" "$T/err" || fail "$(cat "$T/err")"
setpriv --reuid=65534 --clear-groups cat "$TREE/version" >/dev/null || fail "nobody may not look"
must cache_dev_register "path=$SHM/cache,format=1,force=1"
must cache_dev0/adm "op=backing-start,path=$T/backing"
setpriv --reuid=65534 --clear-groups rm -f "$TREE/cache_dev0/backing_dev0/stats" 2>"$T/err" &&
  fail "nobody reset the statistics"
grep -q "Operation not permitted" "$T/err" || fail "$(cat "$T/err")"

#!/usr/bin/env bash
# Who may use a logical device, what the daemon may do, and whom it trusts with its run directory.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/bad_input.bash"
prepare_nobody || skip "this is not root, or there is no setpriv"
chmod 755 "$MNT"

as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
may_read() { as_nobody dd if="$MNT/dev" of=/dev/null bs=4096 count=1 status=none 2>/dev/null; }
may_write() { as_nobody dd if=/dev/zero of="$MNT/dev" bs=4096 count=1 conv=notrunc status=none 2>/dev/null; }
yes_or_no() { if "$@"; then echo yes; else echo no; fi; }
# rights READ WRITE WHAT
rights() {
  check "$1" "$(yes_or_no may_read)" "whether nobody may read, $3,"
  check "$2" "$(yes_or_no may_write)" "whether nobody may write, $3,"
}
attributes() { stat -c '%u %g %a' "$MNT/dev"; }

say "only the daemon's user, unless others are let in"
simple_setup 16M
check "0 0 600" "$(attributes)" "owner, group and permissions by default"
p set dev uid=65534 gid=65534 permissions=0666
check "65534 65534 666" "$(attributes)" "owner, group and permissions"
rights no no "where others are not let in"
p umount "$MNT"

say "they are kept over a mount; with allow_other they count"
p mount "$MNT" --cache "$SHM/cache" -o allow_other
check "65534 65534 666" "$(attributes)" "owner, group and permissions at the next mount"
rights yes yes "as the owner"
p set dev permissions=0400
rights yes no "as the owner of what may only be read"
p set dev uid=1234 permissions=0640
rights yes no "as one of the group"
p set dev gid=daemon
rights no no "as one of the others"
p set dev permissions=0602 --temporary
rights no yes "as one of the others who may write"
check "1234 0 602" "$(attributes)" "owner, group and permissions"
p unset dev uid gid permissions
check "0 0 600" "$(attributes)" "owner, group and permissions, taken back"
rights no no "by default"
expect_error 2 "permissions must be octal" p set dev permissions=888
expect_error 2 "uid must be a number" p set dev uid=nobody
if chmod 666 "$MNT/dev" 2>/dev/null || chown 1 "$MNT/dev" 2>/dev/null; then wrong "chmod or chown is not refused"; fi
p get dev permissions --json | jq -e '.settings[0].value == "0600"' >/dev/null || wrong "no JSON"

say "the daemon has given up what it does not need"
pid=$(daemon_pid "$MNT")
mine=$((16#$(awk '/^CapPrm/ { print $2 }' /proc/self/status)))
dac=$((1 << 1)) lock=$((1 << 14)) admin=$((1 << 21))
cap() { echo $((16#$(awk -v set="$2:" '$1 == set { print $2 }' "/proc/$pid/task/$1/status"))); }
[ "$(ls "/proc/$pid/task" | wc -l)" -gt 5 ] || wrong "it has hardly any threads"
for task in $(ls "/proc/$pid/task"); do
  check $((mine & (dac | lock))) "$(cap "$task" CapEff)" "what thread $task may do"
  check $((mine & (dac | lock | admin))) "$(cap "$task" CapPrm)" "what thread $task might do"
  check $((mine & (dac | lock | admin))) "$(cap "$task" CapBnd)" "what a program of thread $task might do"
  check 1 "$(awk '/^NoNewPrivs/ { print $2 }' "/proc/$pid/task/$task/status")" "NoNewPrivs"
done

say "and still does all it has to"
truncate -s 16M "$T/owned"
chown 1234 "$T/owned"
chmod 600 "$T/owned"
p add owned "$T/owned"
p remove owned
kill -TERM "$pid"
gone "$pid"
if grep -q " $MNT fuse" /proc/mounts; then wrong "a daemon that was told to end did not unmount"; fi

say "a run directory that is not its owner's alone is refused"
run=$PCACHEFS_RUN_DIR
mv "$run" "$T/elsewhere"
ln -s "$T/elsewhere" "$run"
expect_error 9 "$run .*symbolic link" p mount "$MNT"
expect_error 9 "$run .*symbolic link" p status
[ -z "$(ls -A "$T/elsewhere")" ] || wrong "something was made behind the link"
rm "$run"
mkdir -m 777 "$run"
expect_error 9 "$run .*others may write" p mount "$MNT"
chmod 755 "$run"
chown 65534 "$run"
expect_error 9 "$run .*belongs to user 65534" p mount "$MNT"
chown 0 "$run"

say "nor is one that others could put another one in the place of"
mkdir -m 755 "$T/theirs"
chown 65534 "$T/theirs"
PCACHEFS_RUN_DIR=$T/theirs/run expect_error 9 "$T/theirs belongs to user 65534" p mount "$MNT"
ln -s "$T/elsewhere" "$T/link"
chown -h 65534 "$T/link"
PCACHEFS_RUN_DIR=$T/link/run expect_error 9 "$T/link belongs to user 65534" p mount "$MNT"
chown -h 0 "$T/link"
ln -s "$T/theirs" "$T/elsewhere/further"
mkdir "$T/theirs/in"
PCACHEFS_RUN_DIR=$T/link/further/in/run expect_error 9 "belongs to user 65534" p mount "$MNT"
chmod 777 "$T/elsewhere"
PCACHEFS_RUN_DIR=$T/link/run expect_error 9 "others may write in .*elsewhere" p mount "$MNT"
chmod 1777 "$T/elsewhere"
PCACHEFS_RUN_DIR=$T/link/run/deep p mount "$MNT" >/dev/null
PCACHEFS_RUN_DIR=$T/link/run/deep p umount "$MNT"
p mount "$MNT" >/dev/null
socket=$(echo "$run"/*.sock)
p umount "$MNT"
ln -s "$T/precious" "$socket"
echo precious >"$T/precious"
expect_error 9 "[.]sock is not a control socket" p mount "$MNT"
expect_error 8 "no pcachefs" p status
check precious "$(cat "$T/precious")" "what a link in the run directory leads to"
[ -L "$socket" ] || wrong "the link is gone"
rm "$socket"
echo precious >"$socket"
expect_error 9 "[.]sock is not a control socket" p mount "$MNT"
check precious "$(cat "$socket")" "a file in the run directory"
rm "$socket"
p mount "$MNT" >/dev/null
p umount "$MNT"
finish

# What the tests of the scenarios of the kernel driver's suite share: devices are made through the control tree alone.
. "$(dirname "$0")/lib.sh"

TREE=$MNT/.pcache

# write FILE TEXT: what `echo TEXT > .pcache/FILE` comes to, in $ERRNO: "" or what the shell says of the write.
put() {
  ERRNO=""
  ( echo "$2" >"$TREE/$1" ) 2>"$T/put" || ERRNO=$(sed 's/.*: //' "$T/put" | tail -1)
  [ -z "$ERRNO" ]
}
must() { put "$@" || fail "echo '$2' > .pcache/$1: $ERRNO; $(cat "$TREE/last_error")"; }
# refused ERROR NAMED FILE TEXT: it ends with that errno, and last_error names what is wrong.
refused() {
  put "$3" "$4" && fail "echo '$4' > .pcache/$3 was taken"
  [ "$ERRNO" = "$1" ] || fail "echo '$4' > .pcache/$3: $ERRNO, expected $1"
  grep -q -- "$2" "$TREE/last_error" || fail "'$2' is not named: $(cat "$TREE/last_error")"
}
INVALID="Invalid argument"

# A cache device of that many MiB as cache_dev0, and backing files.
driver_setup() {
  p mount "$MNT"
  truncate -s "${1:-64}M" "$SHM/cache"
  must cache_dev_register "path=$SHM/cache,format=1,force=0"
  truncate -s "${2:-64}M" "$T/backing"
}
start() { must cache_dev0/adm "op=backing-start,path=$T/backing,name=dev${1:+,$1}"; B=$(echo "$TREE"/cache_dev0/backing_dev*); }
stop() { must cache_dev0/adm "op=backing-stop,backing_id=${B##*backing_dev}"; }
value() { cat "$B/$1"; }
await_value() {  # FILE VALUE
  for _ in $(seq 300); do [ "$(value "$1")" = "$2" ] && return; sleep 0.1; done
  fail "$1 is $(value "$1"), not $2"
}
sum() { dd if="$1" bs=1M count="${2:-1000000}" status=none | md5sum | cut -d' ' -f1; }

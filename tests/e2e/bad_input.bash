# What the tests of bad input share; sourced after lib.sh. A command that is refused ends with the exit code of its
# reason, says so in one line that names the object, and changes nothing. Checks go on after one that fails, so that one
# run shows all that is wrong; `finish` ends the script.

failures=0
watched=()       # files that no refused command may change; they need not exist
watched_mount=   # a running mount whose status no refused command may change

wrong() { echo "WRONG: $*" >&2; failures=$((failures + 1)); }
finish() { [ "$failures" -eq 0 ] || fail "$failures checks failed, each with a line WRONG above"; }

state_of_watched() {
  local file
  for file in "${watched[@]}"; do
    if [ -e "$file" ]; then stat -c '%n: %F of %s bytes' "$file"; else echo "$file: absent"; fi
    # One that was made huge has changed by that already.
    if [ -f "$file" ] && [ "$(stat -c %s "$file")" -lt $((1 << 30)) ]; then cksum <"$file"; fi
  done
  if [ -n "$watched_mount" ]; then
    ls -A "$watched_mount"
    "$PCACHEFS" status --json --mount "$watched_mount" | jq -c \
      '.cache_devs[].label, (.logic_devs[] | {name, size_bytes, backing, cache_dev, state, dirty_bytes, lost_bytes})'
  fi
}

# expect_error CODE PATTERN COMMAND...: expect_exit, and the line of error matches the regular expression PATTERN,
# starts with the program's name, has no control characters a terminal acts on, and nothing watched has changed.
expect_error() {
  local code=$1 pattern=$2 before after command
  shift 2
  command=$(printf '%q ' "$@")
  before=$(state_of_watched)
  # In a subshell, since expect_exit ends the script where the code is another.
  if (expect_exit "$code" "$@"); then
    grep -Eq -- "$pattern" "$T/err" || wrong "the error does not name '$pattern': $command: $(cat "$T/err")"
    grep -Eq '^(pcachefs: |\{"error":)' "$T/err" || wrong "the error does not name the program: $command: $(cat "$T/err")"
    if LC_ALL=C grep -q '[[:cntrl:]]' "$T/err"; then
      wrong "the error has control characters: $command: $(cat -v "$T/err")"
    fi
    [ ! -s "$T/out" ] || wrong "a refused command printed to standard output: $command: $(cat "$T/out")"
  else
    wrong "as above: $command"
  fi
  after=$(state_of_watched)
  if [ "$after" != "$before" ]; then
    wrong "a refused command changed something: $command"
    diff <(echo "$before") <(echo "$after") >&2 || true
  fi
}

# check EXPECTED ACTUAL WHAT
check() { [ "$1" = "$2" ] || wrong "$3 is '$2', expected '$1'"; }

# locked FILE COMMAND...: runs the command while another process holds the lock on FILE.
locked() {
  local file=$1 pid
  shift
  mkfifo "$T/locked"
  (exec flock "$file" bash -c 'echo >"$1"; exec sleep 300' _ "$T/locked") &
  pid=$!
  read -r _ <"$T/locked"  # returns when the lock is held
  "$@"
  pkill -P "$pid"
  wait "$pid" || true
  rm "$T/locked"
}

# Prepares "${NOBODY[@]}", which is the executable run without any privilege, in a place that everybody can reach.
# Returns 1, with the reason printed, where that cannot be.
prepare_nobody() {
  if [ "$(id -u)" -ne 0 ]; then say "left out: what another user may do, as this is not root"; return 1; fi
  if ! command -v setpriv >/dev/null; then
    say "left out: what another user may do, as there is no setpriv"
    return 1
  fi
  chmod 755 "$T" "$SHM"
  cp "$PCACHEFS" "$T/pcachefs"
  chmod 755 "$T/pcachefs"
  NOBODY=(setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set=-all "$T/pcachefs")
}

# Whether loop devices can be had; says why where they cannot.
have_loops() {
  if [ "$(id -u)" -eq 0 ] && [ -e /dev/loop-control ] && losetup --find >/dev/null 2>&1; then return 0; fi
  say "left out: $*, as there are no loop devices or this is not root"
  return 1
}

# let_go LOOP: detached, and not detached once more at the end, when the number may be somebody else's.
let_go() {
  local kept=() loop
  losetup -d "$1"
  for loop in "${loops[@]}"; do [ "$loop" = "$1" ] || kept+=("$loop"); done
  loops=("${kept[@]}")
}

# superblock ACTION FILE: rewrites both copies of the superblock, with their checksums: `newer` gives it the version
# after the one it has; `damage` a wrong checksum; `damage-first` only in the first copy.
superblock() {
  python3 - "$@" <<'PY'
import struct, sys

PAGE, VERSION_AT = 4096, 32

def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF

action, path = sys.argv[1:]
with open(path, "r+b") as cache:
    for copy in range(2):
        cache.seek(copy * PAGE)
        page = bytearray(cache.read(PAGE))
        stored, = struct.unpack_from("<I", page, 0)
        if stored != crc32c(page[4:]):
            sys.exit(f"copy {copy} of the superblock has checksum {stored:08x}, expected {crc32c(page[4:]):08x}")
        if action == "newer":
            version, = struct.unpack_from("<I", page, VERSION_AT)
            struct.pack_into("<I", page, VERSION_AT, version + 1)
            struct.pack_into("<I", page, 0, crc32c(page[4:]))
        elif action == "damage" or copy == 0:
            struct.pack_into("<I", page, 0, stored ^ 1)
        cache.seek(copy * PAGE)
        cache.write(page)
PY
}

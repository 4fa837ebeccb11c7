#!/usr/bin/env bash
# The daemon is killed under write load, again and again: every acknowledged write is there after the next mount.
. "$(dirname "$0")/lib.sh"

# writer.py write FILE LOG PID COUNT: four threads write blocks until COUNT writes are acknowledged, then PID is killed
# and they go on until they get the error. LOG maps each block to the sequence numbers last acknowledged and last tried.
# writer.py check FILE LOG: each block holds one write, whole, between those two.
cat >"$T/writer.py" <<'PY'
import errno, json, os, random, signal, struct, sys, threading

BLOCK, BLOCKS, THREADS = 4096, 40960, 4
mode, path, log_path = sys.argv[1:4]
try:
    log = json.load(open(log_path))
except FileNotFoundError:
    log = {"acked": [0] * BLOCKS, "tried": [0] * BLOCKS, "next": 1}
acked, tried = log["acked"], log["tried"]

def content(block, sequence):
    return struct.pack("<QQ", block, sequence) * (BLOCK // 16)

def check():
    fd = os.open(path, os.O_RDONLY)
    written = 0
    for block in range(BLOCKS):
        data = os.pread(fd, BLOCK, block * BLOCK)
        sequence = struct.unpack_from("<QQ", data)[1]
        if not acked[block] <= sequence <= tried[block]:
            sys.exit(f"block {block} holds sequence {sequence}, acknowledged {acked[block]}, tried {tried[block]}")
        if data != (content(block, sequence) if sequence else bytes(BLOCK)):
            sys.exit(f"block {block} is a mixture: sequence {sequence}")
        # What was tried and not acknowledged has now been decided.
        acked[block] = tried[block] = sequence
        written += sequence != 0
    json.dump(log, open(log_path, "w"))
    print(f"{written} blocks are right")

def write(pid, count):
    fd = os.open(path, os.O_WRONLY)
    done, errors, lock = [0], [], threading.Lock()
    def work(number):
        rng = random.Random(log["next"] + number)
        sequence = log["next"]
        while True:
            # Half of the writes go to few blocks, so that blocks are overwritten in every state. A thread has blocks of
            # its own, so that their sequence numbers only grow.
            block = rng.randrange((BLOCKS if rng.random() < 0.5 else 1024) // THREADS) * THREADS + number
            tried[block] = sequence
            try:
                n = os.pwrite(fd, content(block, sequence), block * BLOCK)
            except OSError as error:
                with lock:
                    errors.append(error.errno)
                return
            if n != BLOCK:
                with lock:
                    errors.append(f"short write of {n}")
                return
            acked[block] = sequence
            sequence += 1
            with lock:
                done[0] += 1
                if done[0] == count:
                    os.kill(pid, signal.SIGKILL)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(THREADS)]
    for t in threads: t.start()
    for t in threads: t.join()
    log["next"] = max(tried) + 1
    json.dump(log, open(log_path, "w"))
    bad = [e for e in errors if e not in (errno.ENOTCONN, errno.EIO, errno.ECONNABORTED)]
    if bad or done[0] < count:
        sys.exit(f"{done[0]} writes, then {errors}")
    print(f"{done[0]} acknowledged writes, then {sorted(map(errno.errorcode.get, set(errors)))}")

if mode == "check":
    check()
else:
    write(int(sys.argv[4]), int(sys.argv[5]))
PY

killed_and_mounted() {  # COUNT [MOUNT ARGUMENTS...]
  local count=$1 pid; shift
  pid=$(daemon_pid "$MNT")
  [ -n "$pid" ] || fail "no daemon"
  timeout 300 python3 "$T/writer.py" write "$MNT/dev" "$T/log" "$pid" "$count" || fail "the writer"
  gone "$pid"
  expect_exit 4 p mount "$MNT" --cache "$SHM/cache"  # over the dead mount
  timeout 300 "$PCACHEFS" umount "$MNT"
  if grep -q " $MNT fuse" /proc/mounts; then fail "the dead mount is still there"; fi
  p mount "$MNT" --cache "$SHM/cache" "$@"
  [ "$(stat_of dev state)" = '"running"' ] || fail "state $(stat_of dev state): $(stat_of dev detail)"
  timeout 300 python3 "$T/writer.py" check "$MNT/dev" "$T/log" || fail "acknowledged writes are missing or wrong"
  [ "$(stat_of dev lost_bytes)" -eq 0 ] || fail "lost bytes"
  [ "$(stat_of dev checksum_errors)" -eq 0 ] || fail "checksum errors"
}

round() {
  for count in "$@"; do
    say "killed after $count writes"
    killed_and_mounted "$count" "${options[@]}"
  done
  say "flushed, the backing alone has it"
  p flush dev
  cmp "$MNT/dev" "$T/backing"
  timeout 300 python3 "$T/writer.py" check "$T/backing" "$T/log" || fail "the backing lacks something"
}

options=(-o dirty_max_age=0)
simple_setup 192M "${options[@]}"
say "granularity $(p status --json | jq -r '.cache_devs[0].granularity')"
round 3000 15000 40000
p umount "$MNT"

say "on media that keep cache lines"
export PMEM2_FORCE_GRANULARITY=CACHE_LINE
rm "$T/log" "$SHM/cache" "$T/backing"
options=()
simple_setup 192M
[ "$(p status --json | jq -r '.cache_devs[0].granularity')" = cache_line ] || fail "the granularity is not cache_line"
round 20000
p umount "$MNT"

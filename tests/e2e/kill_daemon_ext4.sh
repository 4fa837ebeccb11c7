#!/usr/bin/env bash
# The daemon is killed under an ext4: after the next mount and the journal's replay, all that was fsynced is intact.
. "$(dirname "$0")/lib.sh"
command -v mkfs.ext4 >/dev/null || skip "no mkfs.ext4"

# Four processes make, replace and fsync files until they fail; COUNT files after the start the daemon PID is killed.
# Each prints "NUMBER SHA NAME" for a file once it and its directory are fsynced, and at its end the error it got.
cat >"$T/writer.py" <<'PY'
import errno, hashlib, multiprocessing, os, random, signal, sys

directory, out, pid, count, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])

def work(number, done):
    rng = random.Random(seed * 100 + number)
    where = os.path.join(directory, f"{seed}-{number}")
    with open(f"{out}.{number}", "w") as log:
        try:
            os.makedirs(where)
            top = os.open(where, os.O_RDONLY)
            for i in range(1000000):
                data = rng.randbytes(rng.choice((100, 4096, 5000, 40000, 300000)))
                # One in three replaces an older file, as programs do that must not lose it.
                name = f"{rng.randrange(i)}" if i and i % 3 == 0 else f"{i}"
                temporary = os.path.join(where, "new")
                fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                left = memoryview(data)
                while left: left = left[os.write(fd, left):]
                os.fsync(fd)
                os.close(fd)
                log.write(f"try {hashlib.sha256(data).hexdigest()} {seed}-{number}/{name}\n")
                os.rename(temporary, os.path.join(where, name))
                os.fsync(top)
                log.write(f"done {hashlib.sha256(data).hexdigest()} {seed}-{number}/{name}\n")
                with done.get_lock():
                    done.value += 1
                    if done.value == count: os.kill(pid, signal.SIGKILL)
        except OSError as error:
            log.write(f"error {error.errno} -\n")

done = multiprocessing.Value("i", 0)
workers = [multiprocessing.Process(target=work, args=(n, done)) for n in range(4)]
for w in workers: w.start()
for w in workers: w.join()
if done.value < count: sys.exit(f"only {done.value} files were made")
print(f"{done.value} files were fsynced")
PY

# Each file's content is the last one fsynced or the one whose rename was under way.
cat >"$T/check.py" <<'PY'
import errno, hashlib, os, sys
directory, logs = sys.argv[1], sys.argv[2:]
allowed = {}
for log in logs:
    for line in open(log):
        what, value, name = line.split()
        if what == "done": allowed[name] = {value}
        elif what == "try": allowed.setdefault(name, {None}).add(value)
        elif int(value) not in (errno.EIO, errno.EROFS, errno.ENOTCONN): sys.exit(f"{log}: error {value}")
for name, values in allowed.items():
    try:
        found = hashlib.sha256(open(os.path.join(directory, name), "rb").read()).hexdigest()
    except FileNotFoundError:
        found = None
    if found not in values: sys.exit(f"{name} is {found}, not of {values}")
print(f"{len(allowed)} files are right")
PY

say "an ext4"
simple_setup 256M
mkdir "$T/fs"
mounts+=("$T/fs")
attach "$MNT/dev"
mkfs.ext4 -q -F "$LOOP"
mount "$LOOP" "$T/fs"

seed=0
for count in 100 400 900; do
  seed=$((seed + 1))
  say "killed after $count files"
  pid=$(daemon_pid "$MNT")
  [ -n "$pid" ] || fail "no daemon"
  timeout 300 python3 "$T/writer.py" "$T/fs" "$T/log.$seed" "$pid" "$count" $seed || fail "the writer"
  gone "$pid"
  timeout 300 umount -l "$T/fs"
  timeout 300 losetup -d "$LOOP"
  timeout 300 umount -l "$MNT"

  p mount "$MNT" --cache "$SHM/cache"
  attach "$MNT/dev"
  timeout 300 mount "$LOOP" "$T/fs"
  timeout 300 python3 "$T/check.py" "$T/fs" "$T"/log.*.? || fail "fsynced files are missing or wrong"
  timeout 300 umount "$T/fs"
  timeout 300 e2fsck -fn "$LOOP" >"$T/out" 2>&1 || { cat "$T/out" >&2; fail "ext4 is damaged"; }
  mount "$LOOP" "$T/fs"
  rm -rf "$T/fs/$((seed - 1))"-*   # room for the next
  rm -f "$T/log.$((seed - 1))".?
done
timeout 300 umount "$T/fs"
detach "$LOOP"
[ "$(stat_of dev lost_bytes)" -eq 0 ] || fail "lost bytes"
[ "$(stat_of dev checksum_errors)" -eq 0 ] || fail "checksum errors"

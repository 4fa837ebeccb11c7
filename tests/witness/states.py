#!/usr/bin/env python3
"""Looks at the states that a backing had, or that a power cut could have left it in, with the cache thrown away.

usage: states.py FILESYSTEM REPLAY RECORDING BASE JOURNAL DIRECTORY FLUSHES BETWEENS SEED [STATE]

Each state of REPLAY (see replay.cc) is mounted, for the replay of the filesystem's log, and compared with what JOURNAL
says; then the filesystem check must be clean. What is there at one flush has to stay at all later ones, and at the last
one all is there. DIRECTORY is for the image and the mount. FLUSHES is how many flushes are looked at (500+: all, at
least 500), BETWEENS how many states in between at most. With STATE, the number of one, only that one is looked at.
"""

import os
import subprocess
import sys
import time

from oracle import EVERYTHING, Journal, Wrong

DEADLINE_S = 120
MOUNT_OPTIONS = {"ext4": "loop,errors=remount-ro", "xfs": "loop,nouuid"}
CHECKS = {"ext4": ["e2fsck", "-fn"], "xfs": ["xfs_repair", "-n", "-f"]}


def run(command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)


def until_done(command, busy):
    """Again and again while the output says that something else is in the way."""
    end = time.monotonic() + DEADLINE_S
    while True:
        result = run(command)
        if result.returncode == 0 or time.monotonic() > end or not any(word in result.stdout for word in busy):
            return result
        time.sleep(0.1)


class Mounted:
    def __init__(self, filesystem, image, directory):
        self.mount = ["mount", "-t", filesystem, "-o", MOUNT_OPTIONS[filesystem], image, directory]
        self.umount = ["umount", directory]

    def __enter__(self):
        # Other users of loop devices may take the one that mount has chosen.
        result = until_done(self.mount, ("failed to setup loop device", "overlapping loop device"))
        if result.returncode != 0:
            raise Wrong(f"it cannot be mounted: {result.stdout}")

    def __exit__(self, *_):
        result = until_done(self.umount, ("busy",))
        if result.returncode != 0:
            raise RuntimeError(f"{self.umount}: {result.stdout}")


def look_at(filesystem, image, directory, journal, since):
    with Mounted(filesystem, image, directory):
        try:
            newest = journal.check(os.path.join(directory, journal.name), since)
        except OSError as error:
            raise Wrong(f"a file cannot be read: {error}") from error
    result = run([*CHECKS[filesystem], image])
    if result.returncode != 0:
        raise Wrong(f"{CHECKS[filesystem][0]} finds damage:\n{result.stdout}")
    # The check does not tell of what the kernel noticed and could live with.
    if filesystem == "ext4" and "clean with errors" in run(["dumpe2fs", "-h", image]).stdout:
        raise Wrong("ext4 noted errors")
    return newest


def main():
    filesystem, replay, recording, base, journal_path, directory, flushes, betweens, seed = sys.argv[1:10]
    only = int(sys.argv[10]) if len(sys.argv) > 10 else None
    image = os.path.join(directory, "state.img")
    mount_point = os.path.join(directory, "state")
    os.makedirs(mount_point, exist_ok=True)
    journal = Journal(journal_path)
    all_flushes = int(run([replay, recording, base]).stdout)
    wanted = "0" if flushes.endswith("+") else flushes
    maker = subprocess.Popen([replay, recording, base, image, wanted, betweens, seed], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    looked_at = {"at": 0, "after": 0}
    newest = 0  # at the last flush
    try:
        for number, line in enumerate(maker.stdout, 1):
            state = line.strip()
            kind, _, flush, *_ = state.split()
            looked_at[kind] += 1
            if only is None or only == number:
                last = kind == "at" and int(flush) == all_flushes
                try:
                    found = look_at(filesystem, image, mount_point, journal, EVERYTHING if last else newest)
                except Wrong as wrong:
                    sys.exit(f"state {number}, {state}: {wrong}")
                if kind == "at":
                    newest = found
            maker.stdin.write("next\n")
            maker.stdin.flush()
    finally:
        maker.stdin.close()
        status = maker.wait()
    if status != 0:
        sys.exit(f"replay: exit status {status}")
    points = int(flushes.rstrip("+"))
    if looked_at["at"] < points or looked_at["after"] < min(points, int(betweens)):
        sys.exit(f"only {looked_at['at']} flushes and {looked_at['after']} states in between were recorded")
    print(f"{looked_at['at']} of {all_flushes} flushes and {looked_at['after']} states in between are right")


if __name__ == "__main__":
    main()

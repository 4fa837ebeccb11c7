#!/usr/bin/env python3
"""Works on a file of a mount that may die at any time, and knows what each of its blocks may hold.

usage: worker.py FILE BACKING SEED STOP

Threads with blocks of their own write, read, discard and sync FILE at random until the file STOP is there. When the
daemon dies under an operation, they wait for the file to come back: the blocks of that operation hold what was there
before or what the operation makes of them, all others what they did. When FILE becomes longer, they go on to what is
new. In the end all of the file is compared. Prints how many operations were done; exit status 1 with a line for each block that is wrong."""

import ctypes
import errno
import os
import random
import struct
import sys
import threading
import time

BLOCK = 4096
THREADS = 4
WINDOW = 64  # blocks in a row that belong to one thread
PUNCH_HOLE, KEEP_SIZE, ZERO_RANGE = 2, 1, 16
PATIENCE_SECONDS = 300

libc = ctypes.CDLL(None, use_errno=True)


def fallocate(fd, mode, offset, length):
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def content(block, sequence):
    """What `block` holds after write number `sequence`; 0: zeroes."""
    return struct.pack("<QQ", block, sequence) * (BLOCK // 16) if sequence else bytes(BLOCK)


def sequence_of(block, data):
    """The write that `data` is of, or nothing."""
    number = struct.unpack_from("<QQ", data)[1]
    return number if data == content(block, number) else None


class Worker:
    def __init__(self, path, number, blocks, seed, stop):
        self.path, self.number, self.stop = path, number, stop
        self.random = random.Random(seed * THREADS + number)
        self.take(blocks)
        self.held = {}  # block: sequence; 0 where there is nothing
        self.sequence = 0
        self.done = 0
        self.deaths = 0
        self.wrong = []
        self.fd = os.open(path, os.O_RDWR)

    def take(self, blocks):
        self.mine = [first for first in range(0, blocks, WINDOW) if first // WINDOW % THREADS == self.number]
        self.blocks = blocks

    def look_for_more(self):
        try:
            blocks = os.lseek(self.fd, 0, os.SEEK_END) // BLOCK
        except OSError as error:
            return self.come_back(error)
        if blocks < self.blocks:
            self.wrong.append(f"of {self.blocks} blocks {blocks} are left")
        elif blocks > self.blocks:
            self.take(blocks)

    def run(self):
        try:
            while not self.stop() and not self.wrong:
                self.step()
                self.done += 1
                if self.done % 100 == 0:
                    self.look_for_more()
            self.look_for_more()
        except Exception as error:  # a thread must not end unheard
            self.wrong.append(f"thread {self.number}: {error!r}")

    def step(self):
        # Half of all operations are on a tenth of the blocks, so that these are changed in every state.
        count = len(self.mine) if self.random.random() < 0.5 else max(1, len(self.mine) // 10)
        first = self.mine[self.random.randrange(count)] + self.random.randrange(WINDOW)
        length = min(self.random.choice((1, 1, 1, 2, 8)), WINDOW - first % WINDOW, self.blocks - first)
        blocks = range(first, first + length)
        kind = self.random.random()
        if kind < 0.45:
            self.sequence += 1
            data = b"".join(content(block, self.sequence) for block in blocks)
            self.change(blocks, self.sequence, lambda: self.write(first, data))
        elif kind < 0.52:
            mode = KEEP_SIZE | self.random.choice((PUNCH_HOLE, ZERO_RANGE))
            self.change(blocks, 0, lambda: fallocate(self.fd, mode, first * BLOCK, length * BLOCK))
        elif kind < 0.55:
            self.change((), 0, lambda: os.fsync(self.fd))
        else:
            self.check(blocks)

    def write(self, first, data):
        if os.pwrite(self.fd, data, first * BLOCK) != len(data):
            raise OSError(errno.EIO, "short write")

    def change(self, blocks, sequence, operation):
        try:
            operation()
        except OSError as error:
            self.come_back(error)
            for block in blocks:  # each block by itself: an operation is not one step
                self.decide(block, {self.held.get(block, 0), sequence})
            return
        for block in blocks:
            self.held[block] = sequence

    def check(self, blocks):
        data = self.read(blocks[0], len(blocks))
        for at, block in enumerate(blocks):
            self.judge(block, data[at * BLOCK:(at + 1) * BLOCK], {self.held.get(block, 0)})

    def decide(self, block, allowed):
        self.judge(block, self.read(block, 1), allowed)

    def read(self, first, count):
        while True:
            try:
                return os.pread(self.fd, count * BLOCK, first * BLOCK)
            except OSError as error:
                self.come_back(error)

    def judge(self, block, data, allowed):
        found = sequence_of(block, data) if len(data) == BLOCK else None
        if found not in allowed:
            shown = "a mixture" if found is None else f"write {found}"
            self.wrong.append(f"block {block} holds {shown}, and may hold {sorted(allowed)}")
        self.held[block] = found or 0

    def come_back(self, error):
        """Opens the file again once there is a daemon."""
        if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ENODEV):
            raise error
        self.deaths += 1
        deadline = time.monotonic() + PATIENCE_SECONDS
        try:
            os.close(self.fd)
        except OSError:
            pass  # the daemon is not there to hear of it
        while True:
            try:
                self.fd = os.open(self.path, os.O_RDWR)
                os.pread(self.fd, 1, 0)
                return
            except OSError as again:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the file did not come back: {error}, then {again}") from again
                time.sleep(0.05)


def main():
    path, backing, seed, stop_file = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    blocks = os.stat(backing).st_size // BLOCK
    workers = [Worker(path, number, blocks, seed, lambda: os.path.exists(stop_file)) for number in range(THREADS)]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for worker in workers:
        for window in worker.mine:
            if not worker.wrong:
                worker.check(range(window, min(window + WINDOW, worker.blocks)))
    wrong = [line for worker in workers for line in worker.wrong]
    print("\n".join(wrong) if wrong else f"{sum(w.done for w in workers)} operations, "
          f"{sum(w.deaths for w in workers)} of them met a daemon's death; all {workers[0].blocks} blocks are right")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

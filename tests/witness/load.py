#!/usr/bin/env python3
"""Works a filesystem hard and writes a journal of what it fsynced, for oracle.py.

usage: load.py DIRECTORY JOURNAL OPERATIONS SEED [PID]

Four threads create, extend, overwrite, rename, replace and unlink files of their own below DIRECTORY/NAME, where NAME
is the journal's, and fsync them, singly and several at a time; in between they do as much that they do not fsync. Ends
when OPERATIONS are fsynced. With PID, that process is then killed, and the threads go on until the filesystem fails.
"""

import errno
import json
import os
import random
import signal
import sys
import threading

from oracle import SECTOR, sector_content

THREADS = 4
MAX_FILES = 14  # of a thread
MAX_SECTORS = 160
FOLDERS = 3
NOISE_FILES = 12


class Done(Exception):
    """Enough was done."""


class Log:
    def __init__(self, path, wanted, pid):
        self.lock = threading.Lock()
        self.out = open(path, "w", buffering=1)
        self.lines = 0
        self.done = 0
        self.wanted = wanted
        self.pid = pid

    def begin(self, what, *args):
        """Returns the operation's number."""
        with self.lock:
            return self.line([what, *args])

    def finish(self, operation):
        with self.lock:
            self.line(["done", operation])
            self.done += 1
            if self.done == self.wanted and self.pid:
                os.kill(self.pid, signal.SIGKILL)

    def enough(self):
        return self.done >= self.wanted and not self.pid

    def line(self, line):
        self.out.write(json.dumps(line) + "\n")
        self.lines += 1
        return self.lines


class Worker:
    def __init__(self, top, number, seed, log):
        self.top = top
        self.number = number
        self.random = random.Random(seed * 1000 + number)
        self.log = log
        self.files = {}  # what exists and is fsynced: the name by number
        self.sectors = {}
        self.made = 0
        self.noise = []

    def path(self, name):
        return os.path.join(self.top, name)

    def new_name(self):
        self.made += 1
        return f"{self.random.randrange(FOLDERS)}/{self.number}-{self.made}"

    def run(self):
        while not self.log.enough():
            self.batch(self.random.choice((1, 1, 2, 5)))
            for _ in range(self.random.randrange(4)):
                self.unsynced()

    def batch(self, count):
        """Some operations on different files, then all of their fsyncs."""
        begun = []
        used = set()
        for _ in range(count):
            free = sorted(self.files.keys() - used)
            begun.append(self.one(free, used))
        for operation, targets, _ in begun:
            for fd in targets:
                os.fsync(fd)
        for operation, targets, apply in begun:
            for fd in targets:
                os.close(fd)
            self.log.finish(operation)
            apply()

    def one(self, free, used):
        kind = self.random.choices(("create", "extend", "overwrite", "rename", "replace", "unlink"),
                                   (4, 3, 6, 2, 2, 2))[0]
        if len(free) < 2 or (kind == "create" and len(self.files) >= MAX_FILES):
            kind = "create" if len(free) < 2 else "unlink"
        if kind == "create":
            return self.create()
        file = self.random.choice(free)
        used.add(file)
        if kind in ("extend", "overwrite"):
            return self.write(file, kind == "extend")
        if kind == "unlink":
            return self.unlink(file)
        over = None
        if kind == "replace":
            over = self.random.choice([other for other in free if other != file])
            used.add(over)
        return self.rename(file, over)

    def directory_of(self, name):
        return os.open(os.path.dirname(self.path(name)), os.O_RDONLY | os.O_DIRECTORY)

    def write_sectors(self, fd, file, begin, end, operation):
        data = b"".join(sector_content(file, sector, operation) for sector in range(begin, end))
        while data:
            written = os.pwrite(fd, data, end * SECTOR - len(data))
            data = data[written:]

    def create(self):
        name = self.new_name()
        sectors = self.random.choice((1, 8, 9, self.random.randrange(1, MAX_SECTORS // 2)))
        operation = self.log.begin("create", name, sectors)
        fd = os.open(self.path(name), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self.write_sectors(fd, operation, 0, sectors, operation)

        def apply():
            self.files[operation] = name
            self.sectors[operation] = sectors
        return operation, [fd, self.directory_of(name)], apply

    def write(self, file, extend):
        size = self.sectors[file]
        begin = size if extend else self.random.randrange(size)
        end = begin + self.random.randrange(1, 40)
        end = min(end, MAX_SECTORS) if extend else min(end, size)
        if begin >= end:
            begin, end = 0, 1
        operation = self.log.begin("write", file, begin, end)
        fd = os.open(self.path(self.files[file]), os.O_RDWR)
        self.write_sectors(fd, file, begin, end, operation)

        def apply():
            self.sectors[file] = max(size, end)
        return operation, [fd], apply

    def rename(self, file, over):
        old = self.files[file]
        new = self.files[over] if over else self.new_name()
        operation = self.log.begin("rename", file, new, over)
        os.rename(self.path(old), self.path(new))

        def apply():
            self.files[file] = new
            if over:
                del self.files[over]
        return operation, [self.directory_of(new), self.directory_of(old)], apply

    def unlink(self, file):
        name = self.files[file]
        operation = self.log.begin("unlink", file)
        os.unlink(self.path(name))

        def apply():
            del self.files[file]
        return operation, [self.directory_of(name)], apply

    def unsynced(self):
        """Something that nobody waits for, below another folder than what is looked at later."""
        top = f"{self.top}.noise"
        if len(self.noise) < NOISE_FILES or self.random.random() < 0.3:
            self.made += 1
            folder = os.path.join(top, f"{self.number}-{self.made}")
            os.mkdir(folder)
            path = os.path.join(folder, "file" * self.random.randrange(1, 20))
            self.noise.append((folder, path))
        else:
            folder, path = self.random.choice(self.noise)
        if len(self.noise) > NOISE_FILES:
            old_folder, old_path = self.noise.pop(self.random.randrange(len(self.noise)))
            if os.path.exists(old_path):
                os.unlink(old_path)
            os.rmdir(old_folder)
            if old_path == path:
                return
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(fd, self.random.randbytes(self.random.choice((10, 4096, 50000, 200000))),
                  self.random.randrange(100000))
        if self.random.random() < 0.3:
            os.ftruncate(fd, self.random.randrange(100000))
        os.close(fd)


def main():
    directory, journal, operations, seed = sys.argv[1:5]
    pid = int(sys.argv[5]) if len(sys.argv) > 5 else None
    top = os.path.join(directory, os.path.basename(journal))
    for folder in range(FOLDERS):
        os.makedirs(os.path.join(top, str(folder)))
    os.makedirs(f"{top}.noise")
    for folder in (top, directory):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(fd)
        os.close(fd)
    log = Log(journal, int(operations), pid)
    errors = []

    def work(number):
        try:
            Worker(top, number, int(seed), log).run()
        except OSError as error:
            errors.append(error)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # What a filesystem answers whose disk is gone.
    expected = (errno.EIO, errno.EROFS, errno.ENOTCONN) if pid else ()
    bad = [error for error in errors if getattr(error, "errno", None) not in expected]
    if bad or log.done < log.wanted:
        sys.exit(f"load.py: {log.done} operations, then {bad or errors}")
    print(f"{log.done} fsynced operations", *sorted({errno.errorcode[error.errno] for error in errors}))


if __name__ == "__main__":
    main()

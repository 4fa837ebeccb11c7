#!/usr/bin/env python3
"""Knows from a journal of what was done to a filesystem what has to be on it, and what may be.

usage: oracle.py DIRECTORY JOURNAL...    all that was fsynced has to be there; exit status 1 and one line if it is not

A journal is written outside of the filesystem by load.py, one JSON list a line. The number of the line where an
operation began is the operation's number, and the number of the file that it creates. Every sector of a file says which
file it is of, which sector, and which operation wrote it.

What has to be in a state that a crash left: if anything of an operation is there, then all of every operation that was
fsynced before that one began. A disk with a volatile cache keeps to this, and so must the backing alone.
"""

import json
import os
import struct
import sys

SECTOR = 512
STAMP = struct.Struct("<QQQQ")
EVERYTHING = float("inf")


def sector_content(file, sector, operation):
    return STAMP.pack(file, sector, operation, ~(file ^ sector ^ operation) & (1 << 64) - 1) * (SECTOR // STAMP.size)


class Wrong(Exception):
    """The filesystem does not hold what it has to, or holds what it must not."""


class Operation:
    def __init__(self, number):
        self.number = number
        self.done = EVERYTHING  # the line that says that it is fsynced
        self.replaced_by = None  # of a rename over a file: the file that took its name


class File:
    """What was done to one file, in order; a file's operations do not overlap in time."""

    def __init__(self, number, name):
        self.number = number
        self.names = [(name, None)]  # with the renames that gave them
        self.writes = []  # the operation, first sector, end; creation is the first one
        self.unlink = None
        self.create = None

    def known_names(self):
        return [name for name, _ in self.names]


class Seen:
    """A file as it was found."""

    def __init__(self, name, stamps):
        self.name = name
        self.stamps = stamps  # by sector: the number of the operation that wrote it, 0 for zeroes


class Journal:
    def __init__(self, path):
        self.name = os.path.basename(path)
        self.files = {}
        self.made_as = {}  # by the name of its creation
        operations = {}
        with open(path) as lines:
            for number, line in enumerate(lines, 1):
                what, *args = json.loads(line)
                if what == "done":
                    operations[args[0]].done = number
                    continue
                operation = operations[number] = Operation(number)
                if what == "create":
                    name, sectors = args
                    file = self.files[number] = self.made_as[name] = File(number, name)
                    file.create = operation
                    file.writes.append((operation, 0, sectors))
                elif what == "write":
                    self.files[args[0]].writes.append((operation, args[1], args[2]))
                elif what == "rename":
                    self.files[args[0]].names.append((args[1], operation))
                    if args[2] is not None:
                        self.files[args[2]].unlink = operation
                        operation.replaced_by = args[0]
                elif what == "unlink":
                    self.files[args[0]].unlink = operation
                else:
                    raise ValueError(f"{path}:{number}: {what}")
        self.operations = operations

    def look(self, directory):
        """What is there, by file."""
        seen = {}
        for folder, _, names in os.walk(directory):
            for leaf in names:
                path = os.path.join(folder, leaf)
                name = os.path.relpath(path, directory)
                with open(path, "rb") as f:
                    content = f.read()
                file, found = self.identify(name, content)
                if file.number in seen:
                    raise Wrong(f"file {file.number} is there twice, as {name} and as {seen[file.number].name}")
                seen[file.number] = found
        return seen

    def identify(self, name, content):
        if len(content) % SECTOR != 0:
            raise Wrong(f"{name} has {len(content)} bytes, and never had")
        number = None
        stamps = []
        for sector in range(len(content) // SECTOR):
            data = content[sector * SECTOR:(sector + 1) * SECTOR]
            file, _, operation, _ = STAMP.unpack_from(data)
            if data == bytes(SECTOR):
                stamps.append(0)
                continue
            if data != sector_content(file, sector, operation) or (number is not None and file != number):
                raise Wrong(f"{name}: sector {sector} holds what was never written there: {data[:32].hex()}")
            number = file
            stamps.append(operation)
        # Without content only its name says which one it is: of a creation that was not fsynced.
        file = self.made_as.get(name) if number is None else self.files.get(number)
        if file is None:
            raise Wrong(f"{name} holds a file that was never made")
        if name not in file.known_names():
            raise Wrong(f"file {file.number} is at {name}, and was never called that")
        for sector, stamp in enumerate(stamps):
            if stamp != 0 and not any(o.number == stamp and begin <= sector < end for o, begin, end in file.writes):
                raise Wrong(f"{name}: sector {sector} is of operation {stamp}, which did not write it")
        return file, Seen(name, stamps)

    def check(self, directory, since=0):
        """Raises Wrong, or returns the number of the newest operation of which something is there: all that was fsynced
        before it began has to be there. So has all that was fsynced before `since`."""
        seen = self.look(directory)
        newest = since
        for number, found in seen.items():
            file = self.files[number]
            rename = file.names[file.known_names().index(found.name)][1]
            newest = max(newest, number, rename.number if rename else 0, *found.stamps)
        while True:
            gone = self.check_files(seen, newest)
            if gone <= newest:
                return newest
            newest = gone

    def check_files(self, seen, newest):
        """Returns the newest unlink that must have happened."""
        gone = 0
        for file in self.files.values():
            found = seen.get(file.number)
            if file.create.done >= newest:
                continue
            why = f"which was fsynced before operation {newest} began, of which something is there"
            if newest == EVERYTHING:
                why = "which was fsynced"
            if file.unlink and file.unlink.done < newest:
                if found:
                    raise Wrong(f"{found.name} is there after its unlink {file.unlink.number}, {why}")
                continue
            if not found:
                if not file.unlink:
                    raise Wrong(f"file {file.number} is missing, {why}; it was called {file.known_names()}")
                replaced_by = seen.get(file.unlink.replaced_by)
                if replaced_by and replaced_by.name in self.names_before(file.unlink):
                    raise Wrong(f"file {file.number} is missing, {why}; what replaces it is still {replaced_by.name}")
                gone = max(gone, file.unlink.number)
                continue
            self.check_file(file, found, newest, why)
        return gone

    def names_before(self, rename):
        names = self.files[rename.replaced_by].names
        return [name for name, by in names if by is None or by.number < rename.number]

    @staticmethod
    def check_file(file, found, newest, why):
        at = file.known_names().index(found.name)
        for name, rename in file.names[at + 1:]:
            if rename.done < newest:
                raise Wrong(f"{found.name} was not renamed to {name} by operation {rename.number}, {why}")
        floor = []  # by sector: the last write that has to be there
        for operation, begin, end in file.writes:
            if operation.done < newest:
                floor += [0] * (end - len(floor))
                floor[begin:end] = [operation.number] * (end - begin)
        if len(found.stamps) < len(floor):
            raise Wrong(f"{found.name} has {len(found.stamps)} sectors instead of {len(floor)}, {why}")
        for sector, operation in enumerate(floor):
            if found.stamps[sector] < operation:
                raise Wrong(f"{found.name}: sector {sector} is of operation {found.stamps[sector]} instead of "
                            f"{operation}, {why}")


def main():
    directory, *journals = sys.argv[1:]
    for path in journals:
        journal = Journal(path)
        try:
            journal.check(os.path.join(directory, journal.name), EVERYTHING)
        except Wrong as wrong:
            sys.exit(f"{path}: {wrong}")
        done = sum(operation.done != EVERYTHING for operation in journal.operations.values())
        print(f"{path}: {done} fsynced operations on {len(journal.files)} files are there")


if __name__ == "__main__":
    main()

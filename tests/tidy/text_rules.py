#!/usr/bin/env python3
"""Holds every text file to what does not depend on its language.

usage: text_rules.py [ROOT]    exit status 1 and one line for each finding; proves itself on a temporary tree first

The rules:
- No marker of unfinished work stays behind (MARKERS).
- No path of the machine that something was written on, and no host of a package registry: what is needed comes from the
  packages that tests/install_deps.sh names.
- Every file below tests/unit and tests/e2e is picked up: by a glob of CMake, by an include() of it, or by a file that
  is picked up (an #include, or `.` or `python3 "$HERE/..."` in a script). Otherwise a test could be there and never run.
"""

import re
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path

from cmake_text import read_commands

# In pieces, so that this file does not find itself.
MARKERS = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]
MACHINE_PATHS = ["/" + "work/"]
REGISTRIES = [name + "." + domain for name, domain in (
    ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("yarnpkg", "com"), ("crates", "io"),
    ("proxy.golang", "org"), ("rubygems", "org"), ("maven", "org"), ("maven.apache", "org"), ("conan", "io"),
    ("ghcr", "io"), ("docker", "io"), ("quay", "io"), ("deb.debian", "org"), ("security.debian", "org"),
    ("archive.ubuntu", "com"), ("security.ubuntu", "com"))]
WORDS = re.compile(r"\b(" + "|".join(MARKERS) + r")\b")
PATHS = re.compile(r"(?<![\w.$}/-])(" + "|".join(re.escape(path) for path in MACHINE_PATHS) + ")")
HOSTS = re.compile(r"(?<![\w-])(" + "|".join(re.escape(host) for host in REGISTRIES) + r")\b")
SKIPPED_FOLDERS = {".git", "build", "__pycache__"}


def files_below(folder):
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            if path.name not in SKIPPED_FOLDERS:
                yield from files_below(path)
        elif path.is_file():
            yield path


def check_text(root):
    errors = []
    for path in files_below(root):
        content = path.read_bytes()
        if b"\0" in content:
            continue  # not text
        for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
            for what, pattern in (("a marker of unfinished work", WORDS), ("a path of one machine", PATHS),
                                  ("a package registry", HOSTS)):
                for found in pattern.findall(line):
                    errors.append(f"{path.relative_to(root)}:{number}: {what}: {found}")
    return errors


class PickedUp:
    """Which files below tests/ CMake knows, by evaluating the few commands that tests/CMakeLists.txt consists of."""

    def __init__(self, root):
        self.root = root
        self.files = set()
        self.read(root / "tests" / "CMakeLists.txt", {})
        self.follow()

    def read(self, cmake_file, variables):
        """Takes in the globs and include()s of a CMake file. A function's body is taken in at each of its calls."""
        functions = {}
        body = None
        if not cmake_file.is_file():
            return
        for command in read_commands(cmake_file.read_text()):
            if command.name == "function":
                body = functions.setdefault(command.args[0], (command.args[1:], []))[1]
            elif command.name == "endfunction":
                body = None
            elif body is not None:
                body.append(command)
            else:
                self.run(command, variables, functions, cmake_file.parent)

    def run(self, command, variables, functions, folder):
        def expand(text):
            known = {**variables, "CMAKE_CURRENT_LIST_DIR": str(folder), "CMAKE_CURRENT_SOURCE_DIR": str(folder)}
            return re.sub(r"\$\{(\w+)\}", lambda m: known.get(m.group(1), m.group()), text)

        args = [expand(arg) for arg in command.args]
        if command.name in functions:
            names, body = functions[command.name]
            for inner in body:
                self.run(inner, {**variables, **dict(zip(names, args))}, functions, folder)
        elif command.name == "file" and args[:1] == ["GLOB"]:
            found = [path for pattern in args[2:] if pattern != "CONFIGURE_DEPENDS"
                     for path in self.glob(folder / pattern)]
            self.files.update(found)
            variables[args[1]] = ";".join(found)
        elif command.name == "list" and args[:1] == ["FILTER"] and args[2:4] == ["EXCLUDE", "REGEX"]:
            pattern = args[4].replace("\\\\", "\\")
            self.files -= {file for file in variables.get(args[1], "").split(";") if re.search(pattern, file)}
        elif command.name == "include" and args[0].endswith(".cmake"):
            included = folder / args[0]
            self.files.add(str(included))
            self.read(included, dict(variables))
        elif command.name == "add_subdirectory":
            self.read(folder / args[0] / "CMakeLists.txt", dict(variables))
        elif command.name in ("add_executable", "add_library", "add_test"):
            self.files.update(str(folder / arg) for arg in args if (folder / arg).is_file())

    @staticmethod
    def glob(pattern):
        if not pattern.parent.is_dir():
            return []
        return [str(path) for path in pattern.parent.iterdir() if fnmatch(path.name, pattern.name)]

    def follow(self):
        """Adds what is included or sourced by a file that is picked up, until nothing is added any more."""
        waiting = list(self.files)
        while waiting:
            path = Path(waiting.pop())
            if not path.is_file():
                continue
            for name in re.findall(r'^\s*#\s*include\s*"(tests/[^"]+)"|^\s*(?:\.|source)\s+.*/([\w.-]+)"?\s*$|'
                                   r'\bpython3 "\$HERE/([\w.-]+)"',
                                   path.read_text(errors="replace"), re.MULTILINE):
                found = str(self.root / name[0]) if name[0] else str(path.parent / (name[1] or name[2]))
                if found not in self.files:
                    self.files.add(found)
                    waiting.append(found)


def check_picked_up(root):
    picked_up = PickedUp(root).files
    return [f"{path.relative_to(root)}: no glob of CMake picks it up, and nothing that is picked up includes it"
            for folder in (root / "tests" / "unit", root / "tests" / "e2e") if folder.is_dir()
            for path in files_below(folder) if str(path) not in picked_up]


def check(root):
    return check_text(root) + check_picked_up(root)


def self_test():
    sound = {
        "tests/CMakeLists.txt": "function(pcache_unit_test layer)\n  pcache_test(unit_${layer} unit/${layer} ${ARGN})\n"
                                "endfunction()\nfunction(pcache_test name folder)\n"
                                "  file(GLOB sources CONFIGURE_DEPENDS ${folder}/*.cc)\nendfunction()\n"
                                "pcache_unit_test(base)\npcache_test(model model)\ninclude(e2e/e2e.cmake)\n",
        "tests/e2e/e2e.cmake": "file(GLOB scripts CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.sh)\n"
                               'list(FILTER scripts EXCLUDE REGEX "/lib\\\\.sh$")\n',
        "tests/e2e/lib.sh": "T=$(mktemp -d /tmp/x-XX" + "XXXX)\n",
        "tests/e2e/look.py": "",
        "tests/e2e/run.sh": '. "$(dirname "$0")/lib.sh"\npython3 "$HERE/look.py" x || exit 1\ncat "$T/' + 'work/x"\n',
        "tests/unit/base/units_test.cc": '#include "tests/unit/base/shared.h"\n',
        "tests/unit/base/shared.h": "",
        "src/base/units.h": "// Hacks and fixes are words like others.\n",
        "build/release/log": MARKERS[0],
        "picture.png": "\0" + MARKERS[0],
    }
    unseen = "no glob of CMake picks it up"
    broken = [(f"the marker {word}", {"src/base/units.h": f"// {word}: finish\n"},
               f"src/base/units.h:1: a marker of unfinished work: {word}")
              for word in MARKERS]
    broken += [
        ("a path of the machine", {"docs/notes.md": "see " + MACHINE_PATHS[0] + "x\n"},
         "docs/notes.md:1: a path of one machine"),
        ("a registry", {"docs/notes.md": "https://files." + REGISTRIES[1] + "/x\n"},
         "docs/notes.md:1: a package registry"),
        ("a hidden file", {".ci/run": "# " + MARKERS[0] + "\n"}, ".ci/run:1: a marker"),
        ("a test of a folder that is not named", {"tests/unit/cache/cache_test.cc": ""},
         "tests/unit/cache/cache_test.cc: " + unseen),
        ("a test too deep", {"tests/unit/base/deep/deep_test.cc": ""}, "tests/unit/base/deep/deep_test.cc: " + unseen),
        ("a test of another suffix", {"tests/unit/base/other_test.cpp": ""},
         "tests/unit/base/other_test.cpp: " + unseen),
        ("a header that nothing includes", {"tests/unit/base/alone.h": ""}, "tests/unit/base/alone.h: " + unseen),
        ("a script of another suffix", {"tests/e2e/other.bash": ""}, "tests/e2e/other.bash: " + unseen),
        ("a program that no script starts any more", {"tests/e2e/run.sh": '. "$(dirname "$0")/lib.sh"\n'},
         "tests/e2e/look.py: " + unseen),
        ("a library that no script sources any more", {"tests/e2e/run.sh": 'python3 "$HERE/look.py"\n'}, "tests/e2e/lib.sh: " + unseen),
    ]

    def errors_of(files):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return check(Path(folder))

    failures = [f"self-test, the sound tree: {error}" for error in errors_of(sound)]
    for what, change, wanted in broken:
        errors = errors_of({**sound, **change})
        if len(errors) != 1 or wanted not in errors[0]:
            failures.append(f"self-test, {what}: expected one error with '{wanted}', got {errors}")
    return failures


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    errors = self_test() + check(root.resolve())
    for error in errors:
        print(error)
    print(f"{len(errors)} errors")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Holds every #include to the layer table in CMakeLists.txt.

usage: include_rules.py [ROOT]       exit status 1 and one line for each include that is not allowed
       include_rules.py --self-test  proves on a temporary tree that each rule finds what breaks it

The rules:
- A layer includes its own headers, those of the layers in its DEPENDS, and public headers (pcache/).
- Public headers include public headers and the standard library only.
- The front ends, mount and cli, reach the engine through public headers alone, and of control only FRONT_END_HEADERS.
- pmem/ and io/ are included by device alone, which puts the engine together, and by their own unit tests.
- A third-party header is included only where LIBS (for tests: the CMake file) names its library, never in public ones.
- src/cli/main.cc, which is in no layer, includes what its executable is linked from.
- A fuzz target includes every layer but pmem and io, tests/support, and the libraries of tests/fuzz/CMakeLists.txt.
- A unit test includes what its layer may, what the unit tests of those layers share, and tests/support.
- Examples include public headers only.
- Includes start at src/, include/ or the root of the tree. Headers of this tree stand in quotes.
"""

import re
import sys
import tempfile
from pathlib import Path

from cmake_text import keyword_args, read_commands

FRONT_ENDS = {"mount", "cli"}
FRONT_END_HEADERS = {"control/command.h", "control/command_table.h", "control/control_server.h",
                     "control/control_tree.h", "control/driver_terms.h", "control/setting_json.h",
                     "control/version.h"}
DEVICE_SEAMS = {"pmem", "io"}

# Which headers come with a library, as regular expressions of their whole name. None: no header that is not standard.
LIBRARY_HEADERS = {
    "Boost::headers": r"boost/.*",
    "CLI11::CLI11": r"CLI/.*",
    "GTest::gmock": r"gmock/.*",
    "GTest::gtest": r"gtest/.*",
    "GTest::gtest_main": None,
    "PkgConfig::BLKID": r"blkid/.*",
    "PkgConfig::CAPNG": r"cap-ng\.h",
    "PkgConfig::FUSE3": r"(fuse3/)?(fuse|fuse_lowlevel|fuse_common|fuse_opt|fuse_log)\.h",
    "PkgConfig::ISAL": r"isa-l(/.*|\.h)",
    "PkgConfig::MOUNT": r"libmount/.*",
    "PkgConfig::NCURSES": r"ncurses\.h",
    "PkgConfig::PMEM2": r"libpmem2(/.*|\.h)",
    "PkgConfig::SYSTEMD": r"systemd/.*",
    "PkgConfig::URING": r"liburing(/.*|\.h)",
    "PkgConfig::UUID": r"uuid/.*",
    "Threads::Threads": None,
    "absl::btree": r"absl/container/btree_.*",
    "absl::flat_hash_map": r"absl/container/flat_hash_map\.h",
    "absl::inlined_vector": r"absl/container/inlined_vector\.h",
    "benchmark::benchmark": r"benchmark/.*",
    "nlohmann_json::nlohmann_json": r"nlohmann/.*",
    "spdlog::spdlog": r"(spdlog|fmt)/.*",
    "tomlplusplus::tomlplusplus": r"toml\+\+/.*",
}
# What the compiler, the C library and the kernel bring: the standard's headers have no extension.
SYSTEM_HEADER = (
    r"[a-z_]+|(arpa|asm|linux|net|netinet|sanitizer|sys)/[\w/.-]+\.h|[a-z0-9]*intrin\.h|cpuid\.h|"
    r"(dirent|dlfcn|endian|errno|fcntl|getopt|grp|limits|math|netdb|poll|pthread|pwd|sched|semaphore|setjmp|signal|stdarg|"
    r"stddef|stdint|stdio|stdlib|string|syslog|termios|time|unistd|utime)\.h"
)
SOURCE_SUFFIXES = {".h", ".hh", ".hpp", ".inl", ".c", ".cc", ".cpp"}
TOP_FOLDERS = ("include", "src", "mount", "examples", "tests")
INCLUDE = re.compile(r"^\s*#\s*(include|include_next|import)\b\s*(.*)$")


def without_comments(text):
    """Comments blanked out, lines kept. Literals stay, as `//` in one is no comment."""
    token = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)
    return token.sub(lambda m: re.sub(r"[^\n]", " ", m.group()) if m.group().startswith("/") else m.group(), text)


class Layer:
    def __init__(self, name, folder, depends, libs):
        self.name = name
        self.folder = folder
        self.depends = set(depends)
        self.libs = set(libs)


class Tree:
    def __init__(self, root):
        self.root = Path(root)
        self.layers = {}
        self.main_depends = set()  # the layers that the executable is linked from
        self.errors = []
        self.read_table()

    def error(self, where, what):
        self.errors.append(f"{where}: {what}")

    def read_table(self):
        commands = list(read_commands((self.root / "CMakeLists.txt").read_text()))
        for command in commands:
            if command.name != "pcache_layer":
                continue
            lists = keyword_args(command.args, {"DIR", "DEPENDS", "LIBS"})
            name = lists[""][0]
            folder = lists.get("DIR", ["src/" + name])[0]
            self.layers[name] = Layer(name, folder, lists.get("DEPENDS", []), lists.get("LIBS", []))
        for command in commands:
            if command.name == "target_link_libraries" and command.args[0] == "pcachefs":
                self.main_depends = {arg[len("pcache_"):] for arg in command.args if arg.startswith("pcache_")}
        if not self.layers:
            self.error("CMakeLists.txt", "there is no pcache_layer() in it")
        for layer in self.layers.values():
            for other in sorted(layer.depends):
                if other not in self.layers:
                    self.error("CMakeLists.txt", f"layer {layer.name} depends on {other}, which is no layer")
                if other in DEVICE_SEAMS and layer.name != "device":
                    self.error("CMakeLists.txt", f"layer {layer.name} depends on {other}; only device may")
            for library in sorted(layer.libs - LIBRARY_HEADERS.keys()):
                self.error("CMakeLists.txt", f"the headers of {library} are not known; add them to LIBRARY_HEADERS")
            if not (self.root / layer.folder).is_dir():
                self.error("CMakeLists.txt", f"layer {layer.name} has no folder {layer.folder}")
        folders = {layer.folder for layer in self.layers.values()}
        for folder in sorted(p for p in (self.root / "src").iterdir() if p.is_dir()):
            if f"src/{folder.name}" not in folders:
                self.error(f"src/{folder.name}", "is no layer of the table in CMakeLists.txt")

    def libraries_in(self, cmake_file, wanted=lambda command: True):
        """The libraries of LIBRARY_HEADERS that the CMake file names."""
        path = self.root / cmake_file
        if not path.is_file():
            return set()
        return {arg for c in read_commands(path.read_text()) if wanted(c) for arg in c.args if arg in LIBRARY_HEADERS}

    def place_of(self, file):
        """What the file is and what it may include: (its name for messages, own prefixes, layers, libraries)."""
        parts = file.parts
        test_libraries = {"GTest::gtest", "GTest::gmock"}
        engine = self.layers["device"].depends | {"device"} if "device" in self.layers else set()
        if parts[0] == "include":
            return "a public header", set(), set(), set()
        if file.as_posix() == "src/cli/main.cc":
            return "the executable", {"cli", "mount"}, self.main_depends, set()
        for layer in self.layers.values():
            if file.as_posix().startswith(layer.folder + "/"):
                return f"layer {layer.name}", {layer.name}, layer.depends, layer.libs
        if parts[0] == "examples":
            return "an example", set(), set(), set()
        if parts[:2] == ("tests", "unit") and len(parts) > 3:
            if parts[2] not in self.layers:
                self.error(file, f"tests {parts[2]}, which is no layer of the table in CMakeLists.txt")
                return None
            layer = self.layers[parts[2]]
            extra = self.libraries_in(
                "tests/CMakeLists.txt", lambda c: c.name == "pcache_unit_test" and c.args[:1] == [layer.name])
            own = {layer.name, "tests/support"} | {f"tests/unit/{known}" for known in layer.depends | {layer.name}}
            return f"a unit test of {layer.name}", own, layer.depends, test_libraries | layer.libs | extra
        if parts[:2] == ("tests", "bench"):
            extra = self.libraries_in("tests/bench/CMakeLists.txt")
            return "a benchmark", {"tests/support", "tests/bench"}, engine - DEVICE_SEAMS, extra
        if parts[:2] == ("tests", "fuzz"):
            extra = self.libraries_in("tests/fuzz/CMakeLists.txt")
            return "a fuzz target", {"tests/support", "tests/fuzz"}, self.layers.keys() - DEVICE_SEAMS, extra
        if parts[0] == "tests":
            folder = "/".join(parts[:-1])
            extra = self.libraries_in(f"tests/{parts[1]}/{parts[1]}.cmake")
            return "a test", {folder, "tests/support"}, engine - DEVICE_SEAMS, test_libraries | extra
        self.error(file, "is in src/ but in no layer")
        return None

    def check_include(self, file, number, spelling):
        where = f"{file}:{number}"
        match = re.match(r'(?:"([^"]+)"|<([^>]+)>)\s*$', spelling)
        if not match:
            return self.error(where, f"an include that cannot be judged: {spelling.strip()}")
        name = match.group(1) or match.group(2)
        place = self.place_of(file)
        if place is None:
            return None
        what, own, layers, libraries = place
        top = name.split("/")[0]
        if "." in Path(name).parts or ".." in Path(name).parts or name.startswith(("./", "/")):
            return self.error(where, f"{name} is relative or absolute; start at src/, include/ or the tree's root")
        if top in ("src", "include"):
            return self.error(where, f"{name} is written as {name.split('/', 1)[1]}")

        # Headers of this tree.
        bases = (self.root / "include", self.root / "src", self.root)
        if top in self.layers or top in ("pcache", "tests", "examples") or any((b / name).is_file() for b in bases):
            if match.group(2):
                return self.error(where, f"{name} is a header of this tree and stands in quotes")
            if not any((b / name).is_file() for b in bases):
                return self.error(where, f"{name} does not exist")
            if top == "pcache" or any(name.startswith(prefix + "/") for prefix in own):
                return None
            if top not in layers:
                return self.error(where, f"{what} may not include {name}")
            if top in DEVICE_SEAMS and "layer device" != what:
                return self.error(where, f"{what} may not include {name}; only device may include {top}/")
            front_end = file.parts[0] == "mount" or file.as_posix().startswith("src/cli/")
            if front_end and what != "the executable" and top != "base" and name not in FRONT_END_HEADERS:
                return self.error(where, f"{what} may not include {name}; a front end uses public headers")
            return None
        if (self.root / file).parent.joinpath(name).is_file():
            return self.error(where, f"{name} is relative; start at src/, include/ or the tree's root")

        for library, pattern in LIBRARY_HEADERS.items():
            if pattern and re.fullmatch(pattern, name):
                if library not in libraries:
                    return self.error(where, f"{what} may not include {name} of {library}")
                return None
        if match.group(2) and re.fullmatch(SYSTEM_HEADER, name):
            return None
        if not match.group(2):
            return self.error(where, f"{name} is in no layer and of no library that is known")
        return self.error(where, f"{name} is of no library that is known; add it to LIBRARY_HEADERS or SYSTEM_HEADER")

    def check(self):
        """Checks every source file; returns how many includes there were."""
        count = 0
        for top in TOP_FOLDERS:
            for path in sorted((self.root / top).rglob("*")):
                if path.suffix not in SOURCE_SUFFIXES or not path.is_file():
                    continue
                file = path.relative_to(self.root)
                for number, line in enumerate(without_comments(path.read_text()).splitlines(), 1):
                    match = INCLUDE.match(line)
                    if match:
                        count += 1
                        self.check_include(file, number, match.group(2))
        return count


def self_test():
    table = """
        # pcache_layer(comment DEPENDS base)
        pcache_layer(base LIBS PkgConfig::ISAL)
        pcache_layer(io DEPENDS base LIBS PkgConfig::URING)
        pcache_layer(pmem DEPENDS base)
        pcache_layer(cache DEPENDS base
                     LIBS absl::btree)
        pcache_layer(device DEPENDS cache io pmem base)
        pcache_layer(control DEPENDS base LIBS nlohmann_json::nlohmann_json)
        pcache_layer(cli DEPENDS control base)
        pcache_layer(mount DIR mount DEPENDS device control base LIBS PkgConfig::FUSE3)
        target_link_libraries(pcachefs PRIVATE pcache_cli pcache_mount)
    """
    sound = {
        "CMakeLists.txt": table,
        "tests/CMakeLists.txt": "pcache_unit_test(base)\npcache_unit_test(cache nlohmann_json::nlohmann_json)\n",
        "include/pcache/status.h": "#include <string>\n",
        "include/pcache/engine.h": '#include "pcache/status.h"\n#include <sys/uio.h>\n',
        "src/base/units.h": '#include <cstdint>\n',
        "src/base/crc.cc": '#include "base/units.h"\n#include <isa-l/crc.h>\n#include <unistd.h>\n',
        "src/io/ring.h": '#include "base/units.h"\n#include <liburing.h>\n',
        "src/pmem/space.h": '#include "pcache/engine.h"\n',
        "src/cache/cache.h": '#include "absl/container/btree_map.h"\n#include "base/units.h"\n',
        "src/device/manager.cc": '#include "cache/cache.h"\n#include "io/ring.h"\n#include "pmem/space.h"\n',
        "src/control/control_server.h": "#include <nlohmann/json.hpp>\n",
        "src/control/asio.h": "",
        "src/cli/cli.h": '#include "base/units.h"\n// #include "cache/cache.h"\n/*\n#include "cache/cache.h"\n*/\n',
        "src/cli/main.cc": '#include "cli/cli.h"\n#include "mount/daemon.h"\n#include "pcache/engine.h"\n',
        "mount/daemon.h": '#include "control/control_server.h"\n#include <fuse_lowlevel.h>\n',
        "examples/embed.cc": '#include "pcache/engine.h"\n#include <vector>\n',
        "tests/support/rig.h": '#include "cache/cache.h"\n',
        "tests/model/model_test.cc": '#include "tests/support/rig.h"\n#include <gtest/gtest.h>\n',
        "tests/fuzz/CMakeLists.txt": "pcache_fuzz_target(words 100 pcache_cli nlohmann_json::nlohmann_json)",
        "tests/fuzz/target.h": "#include <cstdint>\n",
        "tests/fuzz/words.cc":
            '#include "cli/cli.h"\n#include "cache/cache.h"\n#include "tests/fuzz/target.h"\n#include <nlohmann/json.hpp>\n',
        "tests/unit/base/units_test.cc": '#include "base/units.h"\n#include <gtest/gtest.h>\n',
        "tests/mounted/mounted.cmake": "target_link_libraries(recorder PRIVATE PkgConfig::FUSE3)\n",
        "tests/mounted/recorder.cc": "#include <fuse.h>\n",
        "tests/unit/cache/cache_test.cc":
            '#include "cache/cache.h"\n#include "tests/support/rig.h"\n#include <nlohmann/json.hpp>\n',
    }
    # What is changed in the sound tree, and what the one error has to say.
    broken = [
        ("a forbidden edge", {"src/base/bad.cc": '#include "cache/cache.h"\n'},
         "layer base may not include cache/cache.h"),
        ("an edge against the table's direction", {"src/io/bad.h": '#include "device/x.h"\n', "src/device/x.h": ""},
         "layer io may not include device/x.h"),
        ("an edge only reached through another layer", {"src/device/x.h": "",
         "src/control/bad.cc": '#include "cache/cache.h"\n'},
         "layer control may not include cache/cache.h"),
        ("a seam outside device", {"src/cache/bad.cc": '#include "io/ring.h"\n'},
         "layer cache may not include io/ring.h"),
        ("a seam in a test", {"tests/support/bad.h": '#include "pmem/space.h"\n'}, "may not include pmem/space.h"),
        ("a seam in a fuzz target", {"tests/fuzz/bad.cc": '#include "io/ring.h"\n'},
         "a fuzz target may not include io/ring.h"),
        ("a third-party header in a fuzz target without its library", {"tests/fuzz/bad.cc": "#include <isa-l/crc.h>\n"},
         "a fuzz target may not include isa-l/crc.h"),
        ("a seam in the table", {"CMakeLists.txt": table.replace("cache DEPENDS base", "cache DEPENDS io base")},
         "layer cache depends on io; only device may"),
        ("the engine in a front end", {"mount/bad.cc": '#include "device/x.h"\n', "src/device/x.h": ""},
         "a front end uses public headers"),
        ("what is private to control in a front end", {"src/cli/bad.cc": '#include "control/asio.h"\n'},
         "a front end uses public headers"),
        ("a third-party header in a public header", {"include/pcache/bad.h": "#include <nlohmann/json.hpp>\n"},
         "a public header may not include nlohmann/json.hpp"),
        ("a layer in a public header", {"include/pcache/bad.h": '#include "base/units.h"\n'},
         "a public header may not include base/units.h"),
        ("a third-party header without its library", {"src/base/bad.cc": '#include "absl/container/btree_set.h"\n'},
         "layer base may not include absl/container/btree_set.h of absl::btree"),
        ("a third-party header in a test without its library",
         {"tests/unit/base/bad_test.cc": "#include <nlohmann/json.hpp>\n"},
         "may not include nlohmann/json.hpp"),
        ("a third-party header in a folder of tests without its library",
         {"tests/model/bad_test.cc": "#include <fuse.h>\n"}, "a test may not include fuse.h of PkgConfig::FUSE3"),
        ("a third-party header that is not known", {"src/base/bad.cc": "#include <zstd.h>\n"},
         "zstd.h is of no library"),
        ("a library that is not known", {"CMakeLists.txt": table.replace("PkgConfig::URING",
         "PkgConfig::URING PkgConfig::NBD")},
         "the headers of PkgConfig::NBD are not known"),
        ("an unknown layer", {"src/extra/new.cc": ""}, "src/extra: is no layer"),
        ("an unknown layer in the table", {"CMakeLists.txt": table.replace("control DEPENDS base",
         "control DEPENDS bass")},
         "depends on bass, which is no layer"),
        ("a layer without a folder", {"CMakeLists.txt": table + "pcache_layer(ghost DEPENDS base)"},
         "has no folder src/ghost"),
        ("a test of an unknown layer", {"tests/unit/extra/new_test.cc": "#include <vector>\n"},
         "tests extra, which is no layer"),
        ("a relative include", {"src/base/bad.cc": '#include "../cache/cache.h"\n'}, "../cache/cache.h is relative"),
        ("a relative include of a neighbour", {"src/base/bad.cc": '#include "units.h"\n'}, "units.h is relative"),
        ("a relative include within", {"src/base/bad.cc": '#include "base/../base/units.h"\n'}, "is relative"),
        ("a path from another root", {"src/base/bad.cc": '#include "src/base/units.h"\n'},
         "is written as base/units.h"),
        ("a header that is not there", {"src/base/bad.cc": '#include "base/gone.h"\n'}, "base/gone.h does not exist"),
        ("a header of this tree in angle brackets", {"src/base/bad.cc": "#include <pcache/status.h>\n"},
         "stands in quotes"),
        ("an include made by a macro", {"src/base/bad.cc": "#  include HEADER\n"}, "cannot be judged: HEADER"),
        ("the engine in an example", {"examples/bad.cc": '#include "cache/cache.h"\n'}, "an example may not include"),
        ("another layer in a unit test", {"tests/unit/base/bad_test.cc": '#include "cache/cache.h"\n'},
         "a unit test of base may not include cache/cache.h"),
        ("an include after a comment that a literal seems to open",
         {"src/base/bad.cc": 'const char* glob = "/*";\n#include "cache/cache.h"\n'}, "may not include cache/cache.h"),
    ]

    def errors_of(files):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            tree = Tree(folder)
            tree.check()
            return tree.errors

    failures = [f"the sound tree: {error}" for error in errors_of(sound)]
    for what, change, wanted in broken:
        errors = errors_of({**sound, **change})
        if len(errors) != 1 or wanted not in errors[0]:
            failures.append(f"{what}: expected one error with '{wanted}', got {errors}")
    for failure in failures:
        print(failure)
    print(f"self-test: {len(broken)} broken trees, {len(failures)} failures")
    return 1 if failures else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    tree = Tree(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[2])
    count = tree.check()
    for error in tree.errors:
        print(error)
    print(f"{count} includes, {len(tree.errors)} errors")
    return 1 if tree.errors or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())

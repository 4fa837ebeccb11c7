#!/usr/bin/env python3
"""Takes one rule out of the engine at a time and shows which test notices.

usage: mutate.py [--check] [--only NAME]... [--list]

mutations.toml lists the rules: each is a piece of text that occurs once in a file, and what it is replaced with. The
sources are copied to build/mutation, and built and tested there. A mutation is caught when one of the tests it names, or
else any other, fails, crashes or hangs. Prints a line of a table for each; exit status 1 if one is not caught.
--check only looks whether every mutation still applies."""

import argparse
import pathlib
import shutil
import subprocess
import sys
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "mutation"
SOURCES = WORK / "sources"
BUILD = WORK / "build"
# Tried in this order once none of the tests that a mutation names has noticed.
TESTS = ["unit_segment", "unit_log", "unit_index", "unit_cache", "unit_device", "holes", "races", "faults", "damage", "crash",
         "simulation", "model"]
TIMEOUT_SECONDS = 900
# What a rule needed may be unused without it.
FLAGS = "-O1 -Wno-unused-variable -Wno-unused-parameter -Wno-unused-but-set-variable -Wno-unused-function"


def load():
    with open(pathlib.Path(__file__).with_name("mutations.toml"), "rb") as file:
        return tomllib.load(file)["mutation"]


def mutated(text, mutation):
    """The file's text without the rule, or why it cannot be taken out."""
    found = text.count(mutation["find"])
    if found != 1:
        raise ValueError(f"{mutation['name']}: its text occurs {found} times in {mutation['file']}, not once")
    return text.replace(mutation["find"], mutation["replace"])


def check(mutations):
    problems = []
    names = [mutation["name"] for mutation in mutations]
    problems += [f"{name}: the name is used twice" for name in sorted(set(names)) if names.count(name) > 1]
    for mutation in mutations:
        try:
            mutated((ROOT / mutation["file"]).read_text(), mutation)
        except (ValueError, OSError) as problem:
            problems.append(str(problem))
    print("\n".join(problems) or f"{len(mutations)} mutations apply")
    return not problems


def copy_sources():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    shutil.rmtree(SOURCES, ignore_errors=True)
    for name in listed.decode().split("\0"):
        source = ROOT / name
        if not name or not source.is_file():
            continue
        (SOURCES / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, SOURCES / name)


def build(targets):
    done = subprocess.run(["cmake", "--build", BUILD, "--target", *targets], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"the build failed:\n{done.stdout[-4000:]}")


def fails(test):
    """Whether `test` ("BINARY" or "BINARY:FILTER") fails, crashes or hangs."""
    binary, _, gtest_filter = test.partition(":")
    command = [BUILD / "tests" / binary, "--gtest_brief=1", "--gtest_fail_fast"]
    if gtest_filter:
        command.append(f"--gtest_filter={gtest_filter}")
    try:
        return subprocess.run(command, capture_output=True, timeout=TIMEOUT_SECONDS, cwd=WORK).returncode != 0
    except subprocess.TimeoutExpired:
        return True


def catcher(mutation, tests):
    named = mutation.get("caught_by", [])
    for test in named + [test for test in tests if test not in named]:
        build([test.partition(":")[0]])  # one at a time: most are caught by the first
        if fails(test):
            return test
    return None


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", action="append", default=[])
    arguments = parser.parse_args()
    mutations = load()
    if not check(mutations):
        return 1
    if arguments.check:
        return 0
    if arguments.list:
        print("\n".join(mutation["name"] for mutation in mutations))
        return 0
    chosen = [mutation for mutation in mutations if not arguments.only or mutation["name"] in arguments.only]
    copy_sources()
    subprocess.run(["cmake", "-S", SOURCES, "-B", BUILD, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=None",
                    f"-DCMAKE_CXX_FLAGS={FLAGS}"], check=True, stdout=subprocess.DEVNULL)
    known = subprocess.run(["ninja", "-C", BUILD, "-t", "targets", "all"], check=True, capture_output=True, text=True)
    tests = [test for test in TESTS if f"\n{test}: " in known.stdout]
    named = sorted({test for mutation in chosen for test in mutation.get("caught_by", [])})
    build(sorted({test.partition(":")[0] for test in named}))
    broken = [test for test in named if fails(test)]
    if broken:
        sys.exit("these fail without any mutation: " + ", ".join(broken))

    print("| taken out | caught by |\n|---|---|", flush=True)
    missed = []
    for mutation in chosen:
        file = SOURCES / mutation["file"]
        original = file.read_text()
        file.write_text(mutated(original, mutation))
        began = time.monotonic()
        try:
            caught = catcher(mutation, tests)
        except RuntimeError as problem:
            print(f"{mutation['name']}: {problem}", file=sys.stderr)
            caught = None
        file.write_text(original)
        if caught is None:
            missed.append(mutation["name"])
        shown = f"`{caught}`" if caught else "**nothing**"
        print(f"| {mutation['what']} (`{mutation['name']}`) | {shown} |", flush=True)
        print(f"{mutation['name']}: {caught} after {time.monotonic() - began:.0f} s", file=sys.stderr)
    if missed:
        print(f"{len(missed)} of {len(chosen)} not caught: {', '.join(missed)}")
        return 1
    print(f"all {len(chosen)} caught")
    return 0


if __name__ == "__main__":
    sys.exit(main())

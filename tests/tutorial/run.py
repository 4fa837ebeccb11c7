#!/usr/bin/env python3
"""Runs the commands of a page, in order, and holds what they print to what the page shows.

usage: run.py PAGE           exit status 1 and the difference at the first command that prints something else
       run.py --self-test    proves that each kind of difference is found

Commands stand in blocks fenced with ```console, after "# "; what follows them up to the next is what they print, both
streams together. "..." in a line stands for any text, a line of only "..." for any number of lines. One shell runs all
of them.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

MARK = "=== end of a command ==="


def read_page(text):
    """The commands with the lines that each is shown to print."""
    commands = []
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            if line.startswith("# "):
                commands.append((line[2:], []))
            elif not commands:
                raise SystemExit(f"output without a command: {line}")
            else:
                commands[-1][1].append(line)
    return commands


def pattern_of(lines):
    """A regular expression for all that is printed."""
    parts = []
    for line in lines:
        if line.strip() == "...":
            parts.append(r"(?:[^\n]*\n)*")
        else:
            # Blanks around "..." are a column's.
            parts.append(r"\s*[^\n]*?\s*".join(re.escape(part.strip() if i else part.rstrip())
                                               for i, part in enumerate(line.split("..."))) + r"[ \t]*\n")
    return "".join(parts)


def run(page):
    commands = read_page(page)
    if not commands:
        raise SystemExit("the page has no commands")
    # The exit status goes on to the next command, as in a shell that is typed to.
    script = "".join(f"{command}\nresult=$?; echo '{MARK}'; (exit $result)\n" for command, _ in commands)
    # Into a file: a daemon that a command starts keeps what it was given open.
    with tempfile.TemporaryFile(mode="w+") as out:
        subprocess.run(["bash"], input=script, text=True, stdout=out, stderr=subprocess.STDOUT, check=False, timeout=300)
        out.seek(0)
        printed = out.read().split(MARK + "\n")
    for (command, shown), text in zip(commands, printed):
        if not re.fullmatch(pattern_of(shown), text):
            print(f"# {command}\nprints:\n{text}\nand not:\n" + "\n".join(shown))
            return 1
    if len(printed) != len(commands) + 1:
        print(f"only {len(printed) - 1} of {len(commands)} commands were run")
        return 1
    print(f"{len(commands)} commands print what the page shows")
    return 0


def self_test():
    def outcome(block):
        return run(f"text\n```console\n{block}\n```\n")
    assert outcome("# echo a\na") == 0
    assert outcome("# echo a\nb") == 1
    assert outcome("# echo a") == 1, "what is printed and not shown"
    assert outcome("# true\na") == 1, "what is shown and not printed"
    assert outcome("# echo 'size 17 of 20'\nsize ... of 20") == 0
    assert outcome("# echo 'size 17 of 21'\nsize ... of 20") == 1
    assert outcome("# seq 9\n1\n...\n9") == 0
    assert outcome("# seq 9\n1\n...\n8") == 1
    assert outcome("# false\n# echo $?\n1") == 0
    assert outcome("# exit 3\n# echo there") == 1
    return 0


if __name__ == "__main__":
    sys.exit(self_test() if sys.argv[1:] == ["--self-test"] else run(Path(sys.argv[1]).read_text()))

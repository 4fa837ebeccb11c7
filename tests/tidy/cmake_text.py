"""Reads what the other checks need to know out of CMake files: the commands with their arguments."""

import re
from typing import NamedTuple


class Command(NamedTuple):
    name: str
    args: list


def read_commands(text):
    """The commands of a CMake file in order. Arguments are split at spaces; quotes are taken off."""
    text = re.sub(r"#.*", "", text)
    for match in re.finditer(r"(\w+)\s*\(([^()]*)\)", text):
        args = re.findall(r'"([^"]*)"|([^\s"]+)', match.group(2))
        yield Command(match.group(1), [quoted or plain for quoted, plain in args])


def keyword_args(args, keywords):
    """Splits arguments at keywords: what stands before the first one is under the empty text."""
    lists = {"": []}
    current = ""
    for arg in args:
        if arg in keywords:
            current = arg
            lists.setdefault(current, [])
        else:
            lists[current].append(arg)
    return lists

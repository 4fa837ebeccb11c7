#!/usr/bin/env python3
"""Is the journal of a `pcachefs mount -f`: what the daemon logs there, with which levels.

usage: journal.py PCACHEFS MNT CACHE    exit status 1 and what is wrong, if anything is

/run has to be a directory that nobody else uses.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile

PATIENCE = 120  # seconds that a busy machine may take
SOCKET = "/run/systemd/journal/socket"


def fields(message):
    return dict(line.split("=", 1) for line in message.decode().splitlines() if "=" in line)


def main():
    pcachefs, mount, cache = sys.argv[1:]
    os.makedirs(os.path.dirname(SOCKET))
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    journal.bind(SOCKET)
    journal.settimeout(PATIENCE)
    with tempfile.TemporaryFile() as stream:
        stat = os.fstat(stream.fileno())
        daemon = subprocess.Popen([pcachefs, "mount", "-f", mount, "--cache", cache], stderr=stream,
                                  env={**os.environ, "JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"})
        try:
            heard = []
            while not any(entry["MESSAGE"] == "serving " + mount for entry in heard):
                heard.append(fields(journal.recv(65536)))
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(PATIENCE)
        except socket.timeout:
            sys.exit(f"the journal lacks that it serves {mount}: {heard}")
        finally:
            daemon.kill()
            daemon.wait()
        wrong = [entry for entry in heard if (entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"]) != ("6", "pcachefs")]
        if wrong:
            sys.exit(f"of another level, or by another name: {wrong}")
        stream.seek(0)
        if text := stream.read():
            sys.exit(f"it also logs to standard error: {text}")


if __name__ == "__main__":
    main()

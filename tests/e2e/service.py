#!/usr/bin/env python3
"""Is the service manager of a `pcachefs mount -f`: what the daemon says to it, and when.

usage: service.py PCACHEFS MNT CACHE LOGIC_DEV    exit status 1 and what is wrong, if anything is

The cache device has to be recovered. The daemon is told to end at the end.
"""

import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

PATIENCE = 120  # seconds that a busy machine may take
LOOKS = 4  # signs of life to wait for
RECOVERED = "recovering"


class Manager:
    def __init__(self, folder):
        self.path = os.path.join(folder, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(self.path)
        self.heard = []  # dictionaries, in their order

    def start(self, command):
        # The daemon is this shell: WATCHDOG_PID has to be its number.
        env = {**os.environ, "NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": "30000000"}
        return subprocess.Popen(["sh", "-c", 'export WATCHDOG_PID=$$; exec "$@"', "sh", *command], env=env,
                                stderr=subprocess.PIPE, text=True)

    def hear(self, daemon):
        """The next message, as a dictionary; an empty one where none comes any more."""
        self.socket.settimeout(PATIENCE if daemon.poll() is None else 0.5)
        try:
            text, control, _, _ = self.socket.recvmsg(4096, 1024)
        except (socket.timeout, BlockingIOError):
            return {}
        sender = struct.unpack("3i", control[0][2][:12])[0]
        if sender != daemon.pid:
            sys.exit(f"process {sender} speaks for the daemon {daemon.pid}: {text}")
        self.heard.append(dict(line.split("=", 1) for line in text.decode().splitlines()))
        return self.heard[-1]

    def hear_until(self, daemon, key):
        while True:
            message = self.hear(daemon)
            if not message or key in message:
                return message


def main():
    pcachefs, mount, cache, device = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        manager = Manager(folder)
        daemon = manager.start([pcachefs, "mount", "-f", mount, "--cache", cache])
        try:
            check(manager, daemon, mount, device)
        finally:
            if daemon.poll() is None:
                daemon.kill()
            daemon.wait()


def check(manager, daemon, mount, device):
    ready = manager.hear_until(daemon, "READY")
    if not ready:
        sys.exit(f"it is never ready: {manager.heard}")
    if not os.path.exists(os.path.join(mount, device)):
        sys.exit("it says that it is ready, and is not")
    if mount not in ready["STATUS"]:
        sys.exit(f"ready does not say what it serves: {ready}")
    before = [message for message in manager.heard if message is not ready]
    if any("WATCHDOG" in message for message in before):
        sys.exit(f"it is watched before it is ready: {before}")
    progress = [message["STATUS"] for message in before if message["STATUS"].startswith(RECOVERED)]
    parts = [int(text.split()[-2]) for text in progress]  # "recovering cache: 40 %"
    if len(parts) < 3 or parts != sorted(parts) or parts[-1] != 100:
        sys.exit(f"recovery is not shown: {progress}")

    begun = time.monotonic()
    for _ in range(LOOKS):
        alive = manager.hear_until(daemon, "WATCHDOG")
        if alive.get("WATCHDOG") != "1":
            sys.exit(f"it does not say that it lives: {manager.heard[-3:]}")
        if "1 logical device" not in alive["STATUS"] or "dirty" not in alive["STATUS"]:
            sys.exit(f"the status does not say what is served: {alive}")
    if time.monotonic() - begun < LOOKS / 2:
        sys.exit("it says so too often")

    daemon.send_signal(signal.SIGTERM)
    stopping = manager.hear_until(daemon, "STOPPING")
    if stopping.get("WATCHDOG_USEC") != "0":
        sys.exit(f"it does not say that it ends, or is watched meanwhile: {stopping}")
    if daemon.wait(PATIENCE) != 0:
        sys.exit(f"it ends with {daemon.returncode}: {daemon.stderr.read()}")
    if manager.hear(daemon):
        sys.exit(f"it goes on after its end: {manager.heard[-1]}")
    if os.path.ismount(mount):
        sys.exit("the mount is still there")


if __name__ == "__main__":
    main()

#!/bin/sh
# Tells a running systemd, after installation and removal, that there is another unit.
set -e
if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi

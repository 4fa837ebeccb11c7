#!/usr/bin/env python3
"""Looks at the live page in headless Chromium, through chromedriver.

usage: live_page.py URL MNT DAEMON_PID LOGIC_DEV [SCREENSHOT]    exit status 1 and what is wrong, if anything is

The mount must be in use meanwhile: read and written. The daemon is held for a moment.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

PATIENCE = 150  # seconds that a busy machine may take

# What the page shows, as one object.
SHOWN = """
const text = (id) => document.getElementById(id).textContent;
const all = (query) => [...document.querySelectorAll(query)];
return {
  mount: text("mount"), health: text("health"), read: text("read"), write: text("write"), ratio: text("ratio"),
  dirty: text("dirty"), what: text("what"),
  devices: all("#device option").map((o) => o.value),
  points: Object.fromEntries(all("svg").map((s) => [s.id, [...s.querySelectorAll("polyline")].map(
    (p) => p.getAttribute("points").split(" ").filter((w) => w).map((w) => Number(w.split(",")[1])))])),
  map: text("maptext"), squares: { dirty: all("#map .dirty").length, clean: all("#map .clean").length, all: all("#map i").length },
  latencies: Object.fromEntries(all("#latencies tr").map((r) => [r.cells[0].textContent,
    [...r.cells].slice(1).map((c) => c.textContent)])),
  events: all("#events .kind").map((k) => k.textContent),
  lost: getComputedStyle(document.getElementById("lost")).display !== "none",
  sideways: document.documentElement.scrollWidth > document.documentElement.clientWidth,
};
"""


class Browser:
    def __init__(self, folder):
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        self.session = None
        for line in self.driver.stdout:
            if "started successfully on port" in line:
                self.base = "http://127.0.0.1:" + line.split("port")[1].strip(" .\n")
                break
        else:
            sys.exit("chromedriver does not start")
        options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                            "--window-size=1400,1150", "--user-data-dir=" + folder]}
        made = self.call("POST", "/session", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}}})
        self.session = "/session/" + made["sessionId"]

    def call(self, method, path, body=None):
        request = urllib.request.Request(self.base + path, method=method, headers={"Content-Type": "application/json"},
                                         data=None if body is None else json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            return json.load(reply)["value"]

    def open(self, url):
        self.call("POST", self.session + "/url", {"url": url})

    def run(self, script):
        return self.call("POST", self.session + "/execute/sync", {"script": script, "args": []})

    def log(self, kind):
        return self.call("POST", self.session + "/se/log", {"type": kind})

    def screenshot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("GET", self.session + "/screenshot")))

    def close(self):
        if self.session:
            self.call("DELETE", self.session)
        self.driver.terminate()
        self.driver.wait()


def number(text):
    try:
        return float(text.split()[0])
    except ValueError:
        return None


def nanoseconds(text):
    return number(text) * {"ns": 1, "\u00b5s": 1e3, "ms": 1e6, "s": 1e9}[text.split()[1]]


def positive(text):
    return (number(text) or 0) > 0


def lacks(shown, mount, device):
    """What the page does not show yet of a mount in use."""
    latencies = shown["latencies"]
    conditions = {
        "mount": shown["mount"].startswith(mount + ", "),
        "health": shown["health"] == "ok",
        "logical device": shown["devices"] == [device] and "writeback" in shown["what"],
        "throughput": positive(shown["read"]) and positive(shown["write"]),
        "curves of it": len(shown["points"]["throughput"]) == 2 and all(
            len(curve) >= 5 and len(set(curve)) > 1 for curve in shown["points"]["throughput"]),
        "hit ratio": number(shown["ratio"]) is not None and 0 <= number(shown["ratio"]) <= 100,
        "dirty bytes": number(shown["dirty"]) is not None,
        "segments": shown["squares"]["dirty"] + shown["squares"]["clean"] > 0 and
                    shown["squares"]["all"] == 60 and "60 segments" in shown["map"],
        "latencies": all(op in latencies and positive(latencies[op][0]) for op in ("read", "write", "backing write")),
        "event": "logic dev added" in shown["events"],
    }
    return [what for what, there in conditions.items() if not there]


def wait_for(browser, is_there, what):
    end = time.monotonic() + PATIENCE
    while True:
        shown = browser.run(SHOWN)
        missing = is_there(shown)
        if not missing:
            return shown
        if time.monotonic() > end:
            sys.exit(f"{what}: {missing}; it shows {json.dumps(shown)}")
        time.sleep(0.3)


def look(browser, url, mount, daemon, device, screenshot):
    browser.open(url)
    shown = wait_for(browser, lambda now: lacks(now, mount, device), "the page lacks")
    if screenshot:
        time.sleep(20)  # for curves
        browser.screenshot(screenshot)
    if shown["sideways"]:
        sys.exit("the page is wider than the window")
    for name, (_, *percentiles) in shown["latencies"].items():
        times = [nanoseconds(text) for text in percentiles if text != "-"]
        if times != sorted(times):
            sys.exit(f"percentiles of {name} fall: {percentiles}")

    os.kill(daemon, signal.SIGSTOP)
    try:
        wait_for(browser, lambda now: not now["lost"], "it does not say that the daemon hangs")
    finally:
        os.kill(daemon, signal.SIGCONT)
    wait_for(browser, lambda now: now["lost"], "it does not go on when the daemon does")
    wait_for(browser, lambda now: lacks(now, mount, device), "after that the page lacks")

    asked = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    asked = [message["params"] for message in asked if message["method"] == "Network.requestWillBeSent"]
    asked = [params["request"]["url"] for params in asked if params["documentURL"] == url]  # the browser has its own
    others = [other for other in asked if not other.startswith((url, "data:"))]
    if others or url + "v1/status" not in asked:
        sys.exit(f"it asks others: {others}, or not the daemon: {set(asked)}")
    # A fetch that was given up is in the log too.
    bad = [entry for entry in browser.log("browser") if entry["level"] == "SEVERE" and entry["source"] != "network"]
    if bad:
        sys.exit(f"errors in the browser: {bad}")


def main():
    url, mount, daemon, device = sys.argv[1:5]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = Browser(folder)
        try:
            look(browser, url, mount, int(daemon), device, sys.argv[5] if len(sys.argv) > 5 else None)
        finally:
            browser.close()


if __name__ == "__main__":
    main()

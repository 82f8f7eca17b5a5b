#!/usr/bin/env python3
"""What requests feel of background work, with the feedback loop of the slices and without it: latency
before, while a host joins, and while a host that missed every write is repaired (its hints were not
kept). Prints a table; no request may fail, and the replicas must be equal in the end.

Usage: controller.py BINARY [OBJECTS]     (20,000 by default; take the release build)
"""

import json
import os
import statistics
import subprocess
import sys
import time

from hosts import Hosts, get_json

RATE, SLICE_S = 300, 5


def pending(hosts):
    """Partitions on the way."""
    return get_json(f"{hosts.url(1)}/v1/cluster/health")["pending_moves"]


def measured(hosts, going_on):
    """Foreground latency in stretches of some seconds while `going_on` says so, at least once: the
    median of the p99 and of the p99.9 in ms, seconds, and the fewest slices of any node."""
    p99, p999, fewest, started = [], [], 1 << 30, time.monotonic()
    while not p99 or going_on():
        report = hosts.foreground(SLICE_S, RATE)
        assert not report["errors"], report["errors"]
        p99.append(max(o["p99_ms"] for o in report["latency"]))
        p999.append(max(o["p999_ms"] for o in report["latency"]))
        slices = [hosts.metric(k, "storage-node", "atoll_slices") for k in hosts.numbers()]
        fewest = min(fewest, *slices)
        assert time.monotonic() - started < 900
    return statistics.median(p99), statistics.median(p999), time.monotonic() - started, int(fewest)


def run(binary, objects, controller):
    """The three phases."""
    settings = {"storage-node": {"background.controller": controller, "hints.max": 1}}
    with Hosts(binary, 4, founders=3, settings=settings) as hosts:
        hosts.load("cold", objects, bytes_each=1000)
        until = time.monotonic() + 15
        yield "before", measured(hosts, lambda: time.monotonic() < until)
        hosts.atoll("stage", "join", "host-4")
        hosts.atoll("commit", json.loads(hosts.atoll("plan", "--json"))["plan"])
        time.sleep(1)
        yield "a host joins", measured(hosts, lambda: pending(hosts))
        hosts.stop(3)
        hosts.load("cold", objects, bytes_each=1008)
        hosts.start(3)
        hosts.ready(3)
        environment = {**os.environ, "ATOLL_ENDPOINT": hosts.url(1)}
        repair = subprocess.Popen([hosts.binary, "repair", "--wait"], env=environment, stdout=subprocess.DEVNULL)
        yield "full repair", measured(hosts, lambda: repair.poll() is None)
        assert repair.returncode == 0, repair.returncode
        assert not hosts.unequal(), "repaired, and not equal"


def main(binary, objects):
    print(f"{objects} objects of 1 kB, foreground {RATE}/s, half reads, half updates")
    print("loop  phase         p99 ms  p99.9 ms  seconds  fewest slices")
    for controller in (False, True):
        for phase, (p99, p999, seconds, fewest) in run(binary, objects, controller):
            print(f"{'on' if controller else 'off':4}  {phase:12}  {p99:6.1f}  {p999:8.1f}  {seconds:7.0f}  {fewest:13}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20_000)

#!/usr/bin/env python3
"""What comparing replicas costs when there is nothing to repair: CPU and bytes with the workers on,
against the workers paused, at the default interval.

Usage: idle.py BINARY [OBJECTS [SECONDS]]     (50,000 objects and 120 s by default)
"""

import sys
import time

import hosts as lab
from hosts import Hosts, eventually, post_json

CORE_SHARE_MAX = 0.01
BYTES_PER_MINUTE_MAX = 1024 * 1024
PAIRS = 3


def cpu(hosts):
    """CPU seconds of all storage nodes and workers."""
    return sum(hosts.cpu_seconds(k, service) for k in hosts.numbers() for service in ("storage-node", "anti-entropy-worker"))


def measured(hosts, seconds):
    """CPU seconds per second."""
    start = cpu(hosts)
    time.sleep(seconds)
    return (cpu(hosts) - start) / seconds


def main(binary, objects, seconds):
    lab.EXCHANGE_INTERVAL_S = 60
    with Hosts(binary, 3) as hosts:
        hosts.load("idle", objects)
        eventually("the replicas are equal", lambda: not hosts.unequal(), 300, 1)
        for k in hosts.numbers():
            post_json(f"{hosts.url(k, lab.WORKER)}/v1/anti-entropy/pause", {})
        time.sleep(10)
        paused = measured(hosts, seconds)
        for k in hosts.numbers():
            post_json(f"{hosts.url(k, lab.WORKER)}/v1/anti-entropy/resume", {})
        time.sleep(10)
        name = ("anti-entropy-worker", "atoll_worker_bytes_total")
        before = sum(hosts.metric(k, *name) for k in hosts.numbers())
        running = measured(hosts, seconds)
        moved = sum(hosts.metric(k, *name) for k in hosts.numbers()) - before
        per_pair = moved / PAIRS * 60 / seconds
        share = (running - paused) / hosts.count
        print(f"{objects} objects: {100 * share:.2f} % of a core per host, {per_pair / 1024:.0f} KiB per minute and pair")
        assert share < CORE_SHARE_MAX and per_pair < BYTES_PER_MINUTE_MAX


if __name__ == "__main__":
    given = [int(a) for a in sys.argv[2:]]
    main(sys.argv[1], *(given + [50_000, 120][len(given) :]))

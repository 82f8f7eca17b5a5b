#!/usr/bin/env python3
"""One of three hosts loses its data while it is down. Started again, it refills to equality without
client traffic on the lost objects; time, bytes and the foreground's p99 are printed.

Usage: wipe.py BINARY [OBJECTS]     (20,000 objects by default)
"""

import shutil
import sys
import time

from hosts import Hosts, eventually

RATE = 200


def p99(report):
    """The p99 of all operations in milliseconds."""
    return max(operation["p99_ms"] for operation in report["latency"])


def main(binary, objects):
    with Hosts(binary, 3) as hosts:
        hosts.load("cold", objects)
        print(f"{objects} objects on three hosts")
        before = p99(hosts.foreground(10, RATE))
        hosts.stop(3)
        shutil.rmtree(hosts.data_dir(3, "storage-node"))
        hosts.start(3)
        hosts.ready(3)
        started, during = time.monotonic(), []
        while hosts.unequal():
            during.append(p99(hosts.foreground(2, RATE)))
            assert time.monotonic() - started < 900, hosts.unequal()
        took = time.monotonic() - started
        after = p99(hosts.foreground(10, RATE))
        moved = hosts.metric(3, "anti-entropy-worker", "atoll_transfer_bytes_total")
        print(f"refilled to equality in {took:.1f} s, {moved / 1e6:.1f} MB moved")
        print(f"foreground p99 at {RATE}/s: before {before:.1f} ms, during {max(during, default=0):.1f} ms, after {after:.1f} ms")
        eventually("all hosts read alike", lambda: not hosts.unequal())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20_000)

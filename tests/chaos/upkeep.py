#!/usr/bin/env python3
"""What keeping the Merkle tree costs a put: CPU of all server processes per put of two clusters in one
run, one with the tree and one without, in turns; the median of the ratios.

Usage: upkeep.py BINARY [ROUNDS]     (15 by default; take the release build)
"""

import statistics
import sys

from hosts import Hosts

SECONDS, KEYS = 3, 10_000
SHARE_MAX = 0.05


def put_cpu(hosts, warmup=0):
    """Microseconds of CPU per put at 64 clients."""
    args = ["--mix", "update=1", "--clients", 64, "--warmup", warmup]
    if not warmup:
        args.append("--no-preload")
    report = hosts.bench(SECONDS, *args, bucket="upkeep", keys=KEYS)
    assert not report["errors"], report["errors"]
    return report["servers"]["cpu_us_per_op"]


def main(binary, rounds):
    without = {"storage-node": {"store.tree": False}}
    with Hosts(binary, 3) as on, Hosts(binary, 3, settings=without, beside=on) as off:
        for hosts in (on, off):
            put_cpu(hosts, warmup=2)
        pairs = []
        for number in range(rounds):
            # Who begins changes, so that a drift of the machine favours neither.
            first, second = (on, off) if number % 2 else (off, on)
            one, two = put_cpu(first), put_cpu(second)
            pairs.append((one, two) if first is on else (two, one))
        kept, bare = (statistics.median(side) for side in zip(*pairs))
        share = statistics.median(a / b for a, b in pairs) - 1
        print(f"CPU per put: {kept:.0f} us with the tree, {bare:.0f} us without; {100 * share:.1f} % more (median of {rounds} pairs)")
        assert share < SHARE_MAX


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 15)

#!/usr/bin/env python3
"""Random single-bit flips and torn or truncated files in stopped stores: every node starts, no wrong
byte reaches a client or another replica, everything is repaired.

Usage: rot.py BINARY [FLIPS [CUTS [SEED]]]     (60 flips and 6 cuts by default)
"""

import http.client
import json
import random
import sys

from hosts import ROUTER, SERVICES, Hosts, eventually

OBJECTS = 1_500
FLIPS_PER_ROUND = 20
# Processes of a host that may end in a round: what comes back again and again does not recover.
RESTARTS_MAX = 3
# The files of a storage node, which are cut together.
FILES = ("records.redb", "hints.redb")


def expected(i):
    """What object `i` holds, as the loader made it."""
    return f"{i:08}" * 25


def flip(path, chance, count):
    """Flips single bits anywhere in a file."""
    with open(path, "r+b") as file:
        size = file.seek(0, 2)
        for _ in range(count):
            at = chance.randrange(size)
            file.seek(at)
            byte = file.read(1)[0] ^ (1 << chance.randrange(8))
            file.seek(at)
            file.write(bytes([byte]))


def cut(path, chance):
    """Truncates a file, or zeroes a stretch of it as a torn write does."""
    with open(path, "r+b") as file:
        size = file.seek(0, 2)
        if chance.random() < 0.5:
            file.truncate(chance.randrange(size))
        else:
            start = chance.randrange(size)
            file.seek(start)
            file.write(bytes(min(chance.randrange(1, 65536), size - start)))


def read_all(hosts, k):
    """Reads every object through host `k`; only right bytes or an honest refusal may come."""
    refused = 0
    connection = http.client.HTTPConnection(hosts.address(k, ROUTER), timeout=5)
    for i in range(OBJECTS):
        connection.request("GET", f"/v1/kv/rot/object-{i}")
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == 200:
            assert json.loads(body)["text"] == expected(i), f"wrong bytes of object {i} through host {k}"
        else:
            assert answer.status == 503, f"object {i} through host {k}: {answer.status}"
            refused += 1
    connection.close()
    return refused


def revive(hosts, k, ended):
    """Starts again what has ended of host `k`, as whoever supervises it would; notes it in `ended`."""
    gone = [service for service in SERVICES if hosts.processes[k, service].poll() is not None]
    if gone:
        ended += gone
        assert len(ended) <= RESTARTS_MAX, f"{gone} of host {k} end again and again"
        hosts.start(k)
        raise OSError(f"{gone} ended and were started again")


def repaired(hosts, k, ended):
    """True, or what is not as it should be."""
    revive(hosts, k, ended)
    unequal, refused = hosts.unequal(), read_all(hosts, k)
    if unequal or refused:
        raise OSError(f"partitions {unequal} differ or are held by too few; {refused} reads refused through host {k}")
    return True


def main(binary, flips, cuts, seed):
    print(f"seed {seed}")
    chance = random.Random(seed)
    settings = {"storage-node": {"background.scrub_interval_s": 5}}
    with Hosts(binary, 3, settings=settings) as hosts:
        hosts.load("rot", OBJECTS)
        rounds = ["flip"] * -(-flips // FLIPS_PER_ROUND) + ["cut"] * -(-cuts // len(FILES))
        for number, kind in enumerate(rounds):
            k = 1 + number % 3
            hosts.stop(k)
            records, hints = (hosts.data_dir(k, "storage-node") / name for name in FILES)
            if kind == "flip":
                flip(records, chance, FLIPS_PER_ROUND)
            else:
                cut(records, chance)
                cut(hints, chance)
            hosts.start(k)
            ended = []
            eventually(f"host {k} runs", lambda: revive(hosts, k, ended) or hosts.is_ready(k))
            refused = read_all(hosts, k)
            try:
                eventually("everything is repaired", lambda: repaired(hosts, k, ended), 120, 0.5)
            except AssertionError:
                print(f"round {number + 1}: {kind} on host {k}; its store says:\n{hosts.log(k, 'storage-node')[-8000:]}")
                raise
            notes = f", {ended} ended and was started again" if ended else ""
            print(f"round {number + 1} of {len(rounds)}: {kind} on host {k}: {refused} reads refused at first, then all repaired{notes}")
        for k in hosts.numbers():
            assert read_all(hosts, k) == 0
        print(f"{len(rounds)} rounds: no wrong byte, every start succeeded, everything repaired")


if __name__ == "__main__":
    given = [int(a) for a in sys.argv[2:]]
    defaults = [60, 6, random.SystemRandom().randrange(2**32)]
    main(sys.argv[1], *(given + defaults[len(given) :]))

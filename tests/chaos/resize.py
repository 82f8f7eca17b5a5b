#!/usr/bin/env python3
"""3 -> 5 -> 4 -> 3 hosts by plan and commit under a mixed load, while sources, destinations and
workers are killed at random moments: no client error, nothing lost, nothing risen, and what was
planned is what happens.

Usage: resize.py BINARY [OBJECTS [SEED]]     (10,000 objects by default)
"""

import json
import random
import sys
import time

from hosts import STORAGE, Hosts, Workload, eventually, get_json

VICTIMS = ("storage-node", "anti-entropy-worker")
KILL_EVERY_S = 4


def health(hosts):
    """Summary of the cluster as router 1 sees it."""
    return get_json(f"{hosts.url(1)}/v1/cluster/health")


def copies(hosts):
    """What is held complete: pairs of a host's number and a partition."""
    held = set()
    for k in hosts.numbers():
        listed = get_json(f"{hosts.url(k, STORAGE)}/v1/partitions")["partitions"]
        held |= {(k, p["partition"]) for p in listed if p.get("held_from") and p["wanted"]}
    return held


def shares(hosts):
    """Partitions owned, by name of member."""
    members = get_json(f"{hosts.url(1)}/v1/cluster")["members"]
    return {m["name"]: m["owns"] for m in members if m["status"] == "member"}


def left(hosts, k):
    """Partitions of which host `k` still has data."""
    listed = get_json(f"{hosts.url(k, STORAGE)}/v1/partitions")["partitions"]
    return [p["partition"] for p in listed if p.get("held_from") or p.get("leftover")]


def change(hosts, chance, requests):
    """Stages, plans and commits `requests`; kills processes until all moves are done."""
    for request in requests:
        hosts.atoll("stage", *request)
    plan = json.loads(hosts.atoll("plan", "--json"))
    before = copies(hosts)
    hosts.atoll("commit", plan["plan"])
    planned, started = plan["moves_total"], time.monotonic()
    print(f"{requests}: {planned} moves planned")
    time.sleep(2)
    kills = 0
    while health(hosts)["pending_moves"]:
        assert time.monotonic() - started < 600, health(hosts)
        k, victim = chance.choice([(k, v) for k in hosts.numbers() for v in VICTIMS])
        hosts.kill(k, victim)
        kills += 1
        time.sleep(0.5)
        hosts.start(k)
        hosts.ready(k)
        time.sleep(KILL_EVERY_S * chance.random())
    moved = len(copies(hosts) - before)
    assert moved == planned, f"{moved} copies moved, {planned} were planned"
    expected = {node["name"]: node["owned_after"] for node in plan["nodes"] if node["owned_after"]}
    assert shares(hosts) == expected, f"{shares(hosts)} instead of {expected}"
    print(f"  done in {time.monotonic() - started:.1f} s with {kills} kills; owned: {shares(hosts)}")
    return plan


def main(binary, objects, seed):
    print(f"seed {seed}")
    chance = random.Random(seed)
    with Hosts(binary, 5, founders=3) as hosts:
        hosts.load("cold", objects)
        workload = Workload(hosts, [1, 2, 3], seed)
        change(hosts, chance, [("join", "host-4"), ("join", "host-5")])
        change(hosts, chance, [("leave", "host-5")])
        change(hosts, chance, [("leave", "host-4")])
        seen = workload.ask("stop")
        print(seen)
        assert seen["errors"] == 0, seen
        eventually("all hints are delivered", lambda: hosts.hints() == 0)
        eventually("the replicas are equal", lambda: not hosts.unequal(), 120, 1)
        workload.judge()
        for k in (4, 5):
            eventually(f"host {k} has dropped everything", lambda: not left(hosts, k), 120, 1)
        print("nothing lost, nothing invented, nothing risen")


if __name__ == "__main__":
    given = [int(a) for a in sys.argv[2:]]
    defaults = [10_000, random.SystemRandom().randrange(2**32)]
    main(sys.argv[1], *(given + defaults[len(given) :]))

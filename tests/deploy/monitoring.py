"""Dashboards and alert rules against a real cluster under a load that makes things happen: hosts stop and return,
one joins, replicas differ and are repaired. Usage: monitoring.py ROOT ATOLL [--update]
--update writes docs/metrics.md instead of comparing it."""

import json
import math
import pathlib
import socket
import subprocess
import sys
import time

import yaml

from cluster import until
from devcluster import CONTAINERS, DevCluster, Load, Prometheus

JOINED = 4
# What Grafana would put in: all hosts, and a range of several scrapes.
VARIABLES = {"$__rate_interval": "10s", "$namespace": ".*", "$pod": ".*"}


class Lab:
    """What the steps share."""

    def __init__(self, root: pathlib.Path, cluster: DevCluster, prometheus: Prometheus, update: bool):
        self.root, self.cluster, self.prometheus, self.update = root, cluster, prometheus, update


def happen(lab: Lab) -> str:
    """Reads, writes, siblings, refusals, a host that dies and returns, hints, a join, a repair."""
    cluster = lab.cluster
    with Load(cluster) as load:
        load.progress("all is well")
        provoke(cluster)
        cluster.command("dev", "stop", "3", "--kill")
        load.progress("host 3 is dead", 60)
        cluster.command("dev", "start", "3")
        cluster.command("hints", "--wait")
        load.progress("host 3 is back")
        cluster.command("dev", "add-host")
        cluster.command("join", f"host-{JOINED}", "--yes", "--wait")
        load.progress("host 4 has joined")
        cluster.command("repair", "--wait")
        load.progress("replicas are compared", 60)
        turns = load.done
    until("everything is scraped", 30, lambda: lab.prometheus.up() == JOINED * len(CONTAINERS) or lab.prometheus.up())
    # Two scrapes more, so that what has just happened is in.
    time.sleep(3)
    return f"{turns} turns of the load in {time.time() - lab.prometheus.begun:.0f} s"


def provoke(cluster: DevCluster) -> None:
    """What a healthy cluster never sees: a request without meaning, a stranger's message, gossip that is none."""
    with socket.create_connection(("127.0.0.1", cluster.router(1))) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
        raw.recv(100)
    stranger = {"X_Atoll_Cluster": "0" * 32, "X_Atoll_Sender": "0" * 32, "X_Atoll_Protocol": "1"}
    cluster.ask(1, "POST", "/v1/replica", b"{}", offset=10, **stranger)
    answer = cluster.ask(1, "POST", "/v1/gossip", b"{}", offset=20, Content_Type="application/json")
    assert answer.status == 400, answer.body


def panels(lab: Lab) -> str:
    """Every query of every panel has returned a number."""
    dead, count = [], 0
    for path in sorted((lab.root / "helm/atoll/dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                query, count = target["expr"], count + 1
                for name, value in VARIABLES.items():
                    query = query.replace(name, value)
                found = lab.prometheus.samples(query)
                if not any(math.isfinite(value) for _, values in found for value in values):
                    dead.append(f"{path.name}, {panel['title']}: {query}: {len(found)} series, none with a number")
    assert not dead, "\n".join(dead)
    return f"{count} queries, all alive"


STEPS = [happen, panels]


def main() -> int:
    root, atoll = (pathlib.Path(p).resolve() for p in sys.argv[1:3])
    with DevCluster(atoll) as cluster, Prometheus(cluster, JOINED, root / "helm/atoll/rules/atoll.rules.yaml") as prometheus:
        lab = Lab(root, cluster, prometheus, "--update" in sys.argv[3:])
        bad = 0
        for step in STEPS:
            begun = time.monotonic()
            try:
                text = step(lab)
            except (AssertionError, RuntimeError, OSError) as finding:
                bad += 1
                print(f"FAIL {step.__name__}: {finding}", flush=True)
                if step is happen:
                    break
                continue
            print(f"ok   {step.__name__:<10} {time.monotonic() - begun:5.1f} s  {text}", flush=True)
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())

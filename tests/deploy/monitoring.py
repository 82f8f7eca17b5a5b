"""Dashboards and alert rules against a real cluster under a load that makes things happen: hosts stop and return,
one joins, replicas differ and are repaired. Usage: monitoring.py ROOT ATOLL [--update]
--update writes docs/metrics.md instead of comparing it."""

import json
import math
import pathlib
import random
import socket
import subprocess
import sys
import time

import yaml

import reference
from cluster import until
from devcluster import CONTAINERS, DevCluster, Load, Prometheus
from sources import selectors_of

JOINED = 4
WORKER = "anti-entropy-worker"
# Reads after writes, for each time between them; and how far the estimate may be above them.
READS = 200
TOLERANCE = 0.1
# What Grafana would put in: all hosts, and a range of several scrapes.
VARIABLES = {"$__rate_interval": "10s", "$namespace": ".*", "$pod": ".*"}


class Lab:
    """What the steps share."""

    def __init__(self, root: pathlib.Path, cluster: DevCluster, prometheus: Prometheus, update: bool):
        self.root, self.cluster, self.prometheus, self.update = root, cluster, prometheus, update
        # What workers showed while a host was dead: some series are there only then.
        self.in_trouble: list[tuple[str, str]] = []


def happen(lab: Lab) -> str:
    """Reads, writes, siblings, refusals, a host that dies and returns, hints, a join, a repair."""
    cluster = lab.cluster
    with Load(cluster) as load:
        load.progress("all is well")
        provoke(cluster)
        cluster.command("dev", "stop", "3", "--kill")
        load.progress("host 3 is dead", 60)
        until("its partitions are behind", 60, lambda: "atoll_anti_entropy_partition_behind_seconds{" in cluster.scrape(1, WORKER))
        lab.in_trouble = [(WORKER, cluster.scrape(1, WORKER))]
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
    """What a healthy cluster never sees: a request without meaning, strangers' messages, a key that is none."""
    for offset in CONTAINERS.values():
        with socket.create_connection(("127.0.0.1", cluster.router(1) + offset - 1)) as raw:
            raw = cluster.tls().wrap_socket(raw, server_hostname="localhost")
            raw.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
            raw.recv(100)
    stranger = {"X_Atoll_Cluster": "0" * 32, "X_Atoll_Sender": "0" * 32, "X_Atoll_Protocol": "1"}
    cluster.ask(1, "POST", "/v1/replica", b"{}", offset=10, **stranger)
    for answer in (
        cluster.ask(1, "POST", "/v1/gossip", b"{}", offset=20, Content_Type="application/json"),
        cluster.ask(1, "GET", "/v1/cluster", Authorization="Bearer atoll_nobody_nothing"),
    ):
        assert answer.status == 401, answer.body


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


def alerts(lab: Lab) -> str:
    """Prometheus evaluates every rule, and every series that a rule asks for is there."""
    groups = lab.prometheus.api("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    bad = [f"{rule['name']}: {rule['health']} {rule.get('lastError', '')}" for rule in rules if rule["health"] != "ok"]
    assert not bad, "\n".join(bad)
    file = yaml.safe_load((lab.root / "helm/atoll/rules/atoll.rules.yaml").read_text())
    asked = {(rule["alert"], selector) for group in file["groups"] for rule in group["rules"] for selector in selectors_of(rule["expr"])}
    dead = [f"{name}: {selector}" for name, selector in sorted(asked) if not lab.prometheus.samples(f"count({selector})")]
    assert not dead, "no such series:\n" + "\n".join(dead)
    return f"{len(rules)} rules, {len(asked)} selectors, firing in the end: {firing(lab)}"


def firing(lab: Lab) -> str:
    found = lab.prometheus.api("query", query='ALERTS{alertstate="firing"}')["result"]
    return ", ".join(sorted({series["metric"]["alertname"] for series in found})) or "none"


def clean(lab: Lab) -> str:
    """promtool finds nothing to say about the metrics of each of the four processes."""
    names = set()
    for container in CONTAINERS:
        text = lab.cluster.scrape(1, container)
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
        # Those of the process collector have the names that every client library gives them.
        findings = [line for line in (done.stdout + done.stderr).splitlines() if line and not line.startswith("process_")]
        assert not findings, f"{container}: {findings}"
        names |= set(reference.parse(text))
    return f"{len(names)} metrics of {len(CONTAINERS)} processes"


def metrics(lab: Lab) -> str:
    """docs/metrics.md has every metric of every process, with its labels and meaning."""
    now = [(c, lab.cluster.scrape(host, c)) for host in range(1, JOINED + 1) for c in CONTAINERS]
    found = reference.merged(now + lab.in_trouble)
    page = reference.page(found, list(CONTAINERS))
    file = lab.root / "docs/metrics.md"
    if lab.update:
        file.write_text(page)
    written = file.read_text().splitlines() if file.exists() else []
    differ = sorted(set(page.splitlines()) ^ set(written))
    assert page.splitlines() == written, "docs/metrics.md is out of date (tests/deploy/run metrics):\n" + "\n".join(differ)
    return f"{len(found)} metrics"


def freshness(lab: Lab) -> str:
    """Reads of one replica right after writes of one replica: how many are stale, and how many the cluster expects."""
    cluster, dice, seen = lab.cluster, random.Random(3), {}
    keys = [f"/v1/kv/fresh/{i}" for i in range(40)]
    for key in keys:
        cluster.ask(1, "PUT", key, b"0")
    for wait_ms in (0, 5, 50):
        fresh = 0
        for turn in range(READS):
            key, value = keys[turn % len(keys)], f"{wait_ms}-{turn}".encode()
            context = cluster.ask(1, "GET", f"{key}?r=quorum").context
            wrote = cluster.ask(dice.randint(1, JOINED), "PUT", f"{key}?w=1", value, X_Atoll_Context=context)
            assert wrote.status == 204, wrote.body
            time.sleep(wait_ms / 1000)
            # Without the context of the put, which would send the read to the replica that answered it first.
            fresh += cluster.ask(dice.randint(1, JOINED), "GET", f"{key}?r=1").body == value
        seen[wait_ms] = fresh / READS
    expected = {
        wait_ms: lab.prometheus.api("query", query=f'avg(atoll_freshness_ratio{{n="3",r="1",w="1",after_ms="{wait_ms}"}})')["result"]
        for wait_ms in seen
    }
    assert all(expected.values()), "no estimate was made"
    pairs = {wait_ms: (float(result[0]["value"][1]), seen[wait_ms]) for wait_ms, result in expected.items()}
    # The client's own time between answer and read comes on top of the wait, so reads can only be fresher.
    for wait_ms, (estimate, measured) in pairs.items():
        assert measured >= estimate - TOLERANCE, f"after {wait_ms} ms: expected {estimate:.3f}, measured {measured:.3f}"
    return ", ".join(f"after {w} ms expected {e:.3f}, measured {m:.3f}" for w, (e, m) in pairs.items())


STEPS = [happen, panels, alerts, clean, metrics, freshness]


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

#!/usr/bin/env python3
"""What encryption and signatures cost: CPU of all server processes per request of three clusters in one
run, in clear, with TLS and API keys, and with signed messages between hosts as well, in turns; the median
of the ratios to the cluster in clear.

Usage: secure.py BINARY [ROUNDS]     (9 by default; take the release build)
"""

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from hosts import eventually

SECONDS, CLIENTS = 3, 64
BASE_PORT = 17_700
KINDS = {
    "in clear": (False, {}),
    "TLS and keys": (True, {"ATOLL_PEER_AUTH__MODE": "none"}),
    "TLS, keys and signatures": (True, {}),
}
MIXES = {"GET": "read=1", "PUT": "update=1"}


class Cluster:
    """A development cluster of three hosts."""

    def __init__(self, binary, base_port, secure, environment):
        self.binary, self.base_port, self.secure = binary, base_port, secure
        self.environment = {**os.environ, **environment}

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="atoll-secure-"))
        command = [self.binary, "dev", "--base-port", str(self.base_port), "--data", self.folder / "data"]
        self.log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen(
            command + ["--secure"] * self.secure, stdout=self.log, stderr=self.log, env=self.environment
        )
        try:
            eventually("the cluster is ready", lambda: b"ready in" in (self.folder / "log").read_bytes(), 60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder)

    def cpu(self, mix, *more):
        """Microseconds of CPU per request."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        targets = ",".join(f"127.0.0.1:{self.base_port + 100 * host}" for host in range(3))
        command = [self.binary, "bench", "--target", targets, "--mix", mix, "--clients", str(CLIENTS)]
        command += ["--duration", str(SECONDS), "--pids", ",".join(children), "--json", *more]
        environment = dict(self.environment)
        if self.secure:
            environment["ATOLL_CA_FILE"] = str(self.folder / "data/ca.crt")
            environment["ATOLL_API_KEY"] = (self.folder / "data/admin-key").read_text().strip()
        report = json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)
        assert not report["errors"], report["errors"]
        return report["servers"]["cpu_us_per_op"]


def compare(clusters, what, rounds):
    """Prints what one kind of request costs in each cluster."""
    seen = {kind: [] for kind in clusters}
    order = list(clusters)
    for number in range(rounds):
        # Who begins changes, so that a drift of the machine favours nobody.
        for kind in order[number % len(order) :] + order[: number % len(order)]:
            seen[kind].append(clusters[kind].cpu(MIXES[what], "--no-preload", "--warmup", "0"))
    clear = seen["in clear"]
    for kind, costs in seen.items():
        ratio = statistics.median(cost / base for cost, base in zip(costs, clear))
        print(f"{what} {kind}: {statistics.median(costs):.0f} us of CPU, {100 * (ratio - 1):+.0f} %", flush=True)


def main(binary, rounds):
    with contextlib.ExitStack() as stack:
        clusters = {}
        for number, (kind, settings) in enumerate(KINDS.items()):
            clusters[kind] = stack.enter_context(Cluster(binary, BASE_PORT + 1_000 * number, *settings))
            clusters[kind].cpu(MIXES["PUT"], "--warmup", "2")
        for what in MIXES:
            compare(clusters, what, rounds)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 9)

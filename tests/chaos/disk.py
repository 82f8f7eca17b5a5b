#!/usr/bin/env python3
"""The disk of one of three hosts is full, then its syncs fail: the cluster keeps answering, and the
host recovers by itself when the disk does.

Usage: disk.py BINARY
"""

import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from hosts import Hosts, eventually, get_json

SMALL, LARGE = "24m", "256m"


def put(hosts, k, name, body):
    """One default write through host `k`; its status."""
    request = urllib.request.Request(f"{hosts.url(k)}/v1/kv/disk/{name}", body, method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def state(hosts, k):
    """The state of a host's store."""
    return get_json(f"{hosts.url(k, 7710)}/v1/store")["state"]


def full(binary, folder):
    """A 24 MiB disk fills up under host 1."""
    mount = Path(folder) / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", mount], check=True)
    try:
        with Hosts(binary, 3, data_dirs={(1, "storage-node"): mount / "data"}) as hosts:
            written = 0
            while state(hosts, 1) == "healthy":
                for _ in range(20):
                    status = put(hosts, 1 + written % 3, f"fill-{written}", bytes(32_000))
                    assert status == 204, f"write {written}: {status}"
                    written += 1
                assert written < 5_000, "the disk never filled up"
            print(f"host 1 is {state(hosts, 1)} after {written} writes; all of them were acknowledged")
            for i in range(60):
                assert put(hosts, 1 + i % 3, f"while-full-{i}", b"x") == 204, i
            print("the cluster goes on taking writes through all three routers")
            delete = urllib.request.Request(f"{hosts.url(1)}/v1/kv/disk/fill-0?w=all", method="DELETE")
            with urllib.request.urlopen(delete, timeout=10) as answer:
                assert answer.status == 204
            print("a delete is taken by the full host too")
            subprocess.run(["mount", "-o", f"remount,size={LARGE}", mount], check=True)
            eventually("host 1 takes writes again", lambda: state(hosts, 1) == "healthy", 30)
            eventually("the replicas are equal", lambda: not hosts.unequal(), 120, 1)
            print("space returned: host 1 recovered by itself and has caught up")
    finally:
        subprocess.run(["umount", mount], check=True)


def failing_sync(binary, folder):
    """fdatasync fails on host 1 for a while."""
    shim, control = Path(folder) / "faults.so", Path(folder) / "control"
    source = Path(__file__).with_name("faults.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
    control.write_text("0")
    environment = {(1, "storage-node"): {"LD_PRELOAD": str(shim), "FAULTS_CONTROL": str(control)}}
    with Hosts(binary, 3, environment=environment) as hosts:
        # An epoch under which nothing was minted does not end: host 1 must have coordinated something.
        for i in range(60):
            assert put(hosts, 1 + i % 3, f"before-{i}", b"x") == 204
        epoch = get_json(f"{hosts.url(1, 7710)}/v1/store")["epoch"]
        control.write_text("1")
        for i in range(60):
            assert put(hosts, 1 + i % 3, f"sync-{i}", b"x") == 204, i
        failures = hosts.metric(1, "storage-node", "atoll_store_commit_failures_total")
        assert failures > 0, "the fault was never met"
        print(f"{failures:.0f} commits of host 1 failed; all 60 writes were acknowledged by the others")
        control.write_text("0")
        eventually("host 1 takes writes again", lambda: state(hosts, 1) == "healthy", 30)
        assert get_json(f"{hosts.url(1, 7710)}/v1/store")["epoch"] > epoch, "a failed sync ends the epoch"
        eventually("the replicas are equal", lambda: not hosts.unequal(), 120, 1)
        print("syncs work again: host 1 recovered by itself under a new epoch and has caught up")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="atoll-disk-") as folder:
        full(sys.argv[1], folder)
        failing_sync(sys.argv[1], folder)

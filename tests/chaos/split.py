#!/usr/bin/env python3
"""Five hosts cut into 3 | 2 while clients write on both sides; after the heal everything converges
without client traffic, and every concurrent value is kept as a sibling.

Usage: split.py BINARY [SECONDS]     (SECONDS of the cut, 30 by default)
"""

import base64
import http.client
import json
import random
import sys
import time
import uuid

from hosts import Hosts, eventually, get_json

KEYS = 120
BUCKET = "split"
# Detection, hint retries and two exchange intervals, as reliability demands of small clusters.
CONVERGED_WITHIN_S = 30


class Client:
    """Speaks to the routers of some hosts; the next one where one does not answer."""

    def __init__(self, hosts, reachable):
        self.hosts, self.reachable, self.at = hosts, list(reachable), 0

    def call(self, method, path, body=None, headers=None):
        """One request, tried at every router once."""
        for _ in self.reachable:
            k = self.reachable[self.at % len(self.reachable)]
            connection = http.client.HTTPConnection(self.hosts.address(k, 7700), timeout=5)
            try:
                connection.request(method, path, body, headers or {})
                answer = connection.getresponse()
                return answer.status, answer.headers, answer.read()
            except OSError as error:
                print(f"router {k}: {error!r}")
                self.at += 1
            finally:
                connection.close()
        raise AssertionError(f"no router of {self.reachable} answers")

    def put(self, key, value, context=None):
        """An acknowledged write; its context."""
        # The same put at another router must not become a second version.
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        if context:
            headers["X-Atoll-Context"] = context
        status, answered, body = self.call("PUT", f"/v1/kv/{BUCKET}/{key}", value, headers)
        assert status == 204, f"PUT {key} on {self.reachable}: {status} {body[:300]!r}"
        return answered["X-Atoll-Context"]

    def values(self, key):
        """All values of a key, sorted."""
        status, _, body = self.call("GET", f"/v1/kv/{BUCKET}/{key}")
        if status == 200:
            return [body.decode()]
        assert status == 300, f"GET {key}: {status} {body[:300]!r}"
        siblings = json.loads(body)["siblings"]
        return sorted(base64.b64decode(s["value_base64"]).decode() if "value_base64" in s else s["value"] for s in siblings)


def write_on_both_sides(hosts, sides, contexts, seconds, chance):
    """Updates random keys on both sides, each side from what it wrote itself; the last value that
    was acknowledged per key and side."""
    clients = [Client(hosts, side) for side in sides]
    seen = [dict(contexts) for _ in sides]
    last = [{} for _ in sides]
    writes, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        key = f"k{chance.randrange(KEYS)}"
        for side, client in enumerate(clients):
            value = f"{'ab'[side]}-{key}-{writes}"
            seen[side][key] = client.put(key, value, seen[side][key])
            last[side][key] = value
        writes += 1
        time.sleep(0.02)
    return writes, last


def replicas(hosts, key, nodes):
    """The digest of a key's record at each of its primaries."""
    listed = get_json(f"{hosts.url(1)}/v1/ring/preference?bucket={BUCKET}&key={key}")["list"]
    primaries = [node["node"] for node in listed if node["role"] == "primary"]
    found = []
    for node in primaries:
        answer = get_json(f"http://{nodes[node]}/v1/replica/kv/{BUCKET}/{key}")
        found.append(answer["digest"])
    return found


def converged(hosts, nodes):
    """Whether the primaries of every key have the same record."""
    different = [key for key in (f"k{i}" for i in range(KEYS)) if len(set(replicas(hosts, key, nodes))) != 1]
    return not different


def main(binary, seconds):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with Hosts(binary, 5) as hosts:
        everyone = Client(hosts, hosts.numbers())
        contexts = {f"k{i}": everyone.put(f"k{i}", f"base-{i}") for i in range(KEYS)}
        nodes = {n["id"]: n["addresses"]["storage"] for n in get_json(f"{hosts.url(1)}/v1/ring")["nodes"]}
        sides = ([1, 2, 3], [4, 5])
        hosts.cut(*sides)
        print(f"cut into {sides[0]} | {sides[1]} for {seconds} s")
        writes, last = write_on_both_sides(hosts, sides, contexts, seconds, chance)
        print(f"{writes} writes acknowledged on each side, {len(last[0])} keys")
        hosts.heal()
        healed = time.monotonic()
        eventually("all primaries of every key are equal", lambda: converged(hosts, nodes), CONVERGED_WITHIN_S, 0.5)
        print(f"converged {time.monotonic() - healed:.1f} s after the heal, without client traffic")
        for k in hosts.numbers():
            reader = Client(hosts, [k])
            for i in range(KEYS):
                key = f"k{i}"
                expected = sorted({side[key] for side in last if key in side}) or [f"base-{i}"]
                found = reader.values(key)
                if found != expected:
                    print(json.dumps(hosts.everywhere(BUCKET, key)))
                    for j in hosts.numbers():
                        print(j, [hosts.metric(j, "storage-node", m) for m in ("atoll_puts_repeated_total", "atoll_puts_replayed_total")])
                assert found == expected, f"{key} through host {k}: {found} instead of {expected}"
        print(f"{KEYS} keys read through {hosts.count} routers: every concurrent value is there, nothing else")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 30)

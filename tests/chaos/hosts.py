"""Atoll hosts in network namespaces of their own, on one bridge that can be cut.

Every host runs the real processes of the real binary under its own address, so that traffic
between any two hosts can be dropped while both go on serving their clients. Needs root. Everything
made here is named after this process and removed at the end; processes are stopped by pid.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

SUBNET = "10.77.0"
ROUTER, STORAGE, MEMBERSHIP, WORKER = 7700, 7710, 7720, 7730
# In the order in which a host starts them.
SERVICES = {"membership": MEMBERSHIP, "storage-node": STORAGE, "router": ROUTER, "anti-entropy-worker": WORKER}
EXCHANGE_INTERVAL_S = 2


def sh(*args):
    """Runs a command that must succeed."""
    subprocess.run(args, check=True, stdout=subprocess.DEVNULL)


def get_json(url, timeout=5):
    """The JSON that a GET answers."""
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        return json.load(answer)


def post_json(url, body, headers=None, method="POST"):
    """Sends JSON; the JSON that comes back."""
    request = urllib.request.Request(url, json.dumps(body).encode(), method=method)
    request.add_header("Content-Type", "application/json")
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def eventually(what, check, patience_s=60, pause_s=0.2):
    """Waits until `check` gives something true; what it last said is part of the failure."""
    deadline, last = time.monotonic() + patience_s, None
    while time.monotonic() < deadline:
        try:
            last = check()
            if last:
                return last
        except OSError as error:
            last = error
        time.sleep(pause_s)
    raise AssertionError(f"{what}: not within {patience_s} s; last: {last!r}")


class Hosts:
    """A cluster of `count` hosts, founded by the first `founders` of them. Use with `with`.

    `settings` are lines added to the configuration of a service, `environment` to that of a
    (host, service), `data_dirs` replaces the data directory of a (host, service). With `beside`
    the hosts of a second cluster stand on the switch of a first one, so that both are measured in
    one run.
    """

    def __init__(self, binary, count, founders=None, settings=None, environment=None, data_dirs=None, beside=None):
        self.binary, self.count, self.founders = str(binary), count, founders or count
        self.settings, self.environment = settings or {}, environment or {}
        self.data_dirs = data_dirs or {}
        self.tag = f"{beside.tag}b" if beside else f"atoll-{os.getpid()}"
        self.beside, self.offset = beside, beside.count if beside else 0
        self.folder = tempfile.TemporaryDirectory(prefix="atoll-chaos-")
        self.secret = secrets.token_hex(32)
        self.processes = {}

    def __enter__(self):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        try:
            self._network()
            for k in self.numbers():
                self.start(k)
            self._found()
        except BaseException:
            for k in self.numbers():
                for service in SERVICES:
                    print(f"--- host {k} {service}", self.log(k, service)[-600:], sep="\n", file=sys.stderr)
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
        for process in self.processes.values():
            process.wait()
        switch = [] if self.beside else [self.switch()]
        for name in [f"{self.tag}-{k}" for k in self.numbers()] + switch:
            subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL, check=False)
        self.folder.cleanup()

    def numbers(self):
        """The hosts, counted from 1."""
        return range(1, self.count + 1)

    def switch(self):
        """Namespace of the switch."""
        return self.beside.switch() if self.beside else f"{self.tag}-switch"

    def ip(self, k):
        """Address of host `k`."""
        return f"{SUBNET}.{self.offset + k}"

    def address(self, k, port):
        """Where host `k` listens."""
        return f"{self.ip(k)}:{port}"

    def url(self, k, port=ROUTER):
        """Base URL of a process of host `k`."""
        return f"http://{self.address(k, port)}"

    def data(self, k):
        """Folder of host `k`."""
        return Path(self.folder.name) / f"host-{k}"

    def data_dir(self, k, service):
        """Data directory of a process."""
        return Path(self.data_dirs.get((k, service), self.data(k) / service))

    def start(self, k):
        """Starts what does not run of host `k`."""
        for service in SERVICES:
            known = self.processes.get((k, service))
            if known is not None and known.poll() is None:
                continue
            config = self._settings(k, service)
            log = open(self.data(k) / f"{service}.log", "ab")
            environment = {**os.environ, **self.environment.get((k, service), {})}
            # The pipe ends with this process, however it ends, and the host's process with it.
            command = [self.binary, service, "--exit-on-stdin-eof", "--config", str(config)]
            self.processes[k, service] = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.tag}-{k}", *command],
                stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment,
            )
            log.close()

    def kill(self, k, service=None):
        """SIGKILL to one process of host `k`, or to all."""
        for (host, name), process in self.processes.items():
            if host == k and service in (None, name):
                process.kill()
                process.wait()

    def stop(self, k):
        """Stops host `k` in order, first what uses the others."""
        for service in reversed(SERVICES):
            process = self.processes[k, service]
            process.terminate()
            process.wait()

    def ready(self, k):
        """Waits until every process of host `k` is ready."""

        def all_ready():
            for service in SERVICES:
                assert self.processes[k, service].poll() is None, self.log(k, service)[-2000:]
            return self.is_ready(k)

        eventually(f"host {k} is ready", all_ready)

    def is_ready(self, k):
        """True; an `OSError` where a process of host `k` is not ready."""
        for port in SERVICES.values():
            urllib.request.urlopen(f"{self.url(k, port + 1)}/readyz", timeout=2).close()
        return True

    def metric(self, k, service, name):
        """Sum of all series of a metric of one process."""
        with urllib.request.urlopen(f"{self.url(k, SERVICES[service] + 1)}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        of = [line for line in lines if line.split("{")[0].split(" ")[0] == name]
        assert of, f"{service} has no metric {name}"
        return sum(float(line.rsplit(" ", 1)[1]) for line in of)

    def cpu_seconds(self, k, service):
        """CPU time that a process has used."""
        fields = Path(f"/proc/{self.processes[k, service].pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def atoll(self, *args, endpoint=1, check=True):
        """Runs an `atoll` command; what it printed."""
        command = [self.binary, *args]
        environment = {**os.environ, "ATOLL_ENDPOINT": self.url(endpoint)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout

    def load(self, bucket, objects, bytes_each=200):
        """Stores `objects` made-up objects through the client library."""
        with tempfile.NamedTemporaryFile("w", suffix=".ndjson") as file:
            for i in range(objects):
                file.write(json.dumps({"id": f"object-{i}", "text": f"{i:08}" * (bytes_each // 8)}) + "\n")
            file.flush()
            self.atoll("load", file.name, "--bucket", bucket, "--key", "id", "--concurrency", "64")

    def bench(self, seconds, *args, bucket="foreground", keys=2000):
        """Load on all routers, as `args` of `atoll bench` say; the report."""
        targets = ",".join(self.address(k, ROUTER) for k in range(1, self.founders + 1))
        pids = ",".join(str(process.pid) for process in self.processes.values())
        fixed = ["--target", targets, "--duration", str(seconds), "--keys", str(keys), "--bucket", bucket]
        return json.loads(self.atoll("bench", *fixed, "--pids", pids, "--json", *map(str, args)))

    def foreground(self, seconds, rate):
        """Open load of a steady rate; the report."""
        return self.bench(seconds, "--rate", rate, "--warmup", 0, "--clients", 32)

    def unequal(self, n=3):
        """Partitions whose holders differ in what they hold of buckets with N = `n`, and partitions
        that fewer than `n` nodes hold."""
        ring = get_json(f"{self.url(1)}/v1/ring")
        q = ring["partitions"]
        prefixes = [{"bits": q.bit_length() - 1, "index": p} for p in range(q)]
        found = {p: [] for p in range(q)}
        for node in ring["nodes"]:
            if node["status"] not in ("member", "leaving"):
                continue
            base = f"http://{node['addresses']['storage']}"
            digests = post_json(f"{base}/v1/tree/digests", {"n": n, "prefixes": prefixes})
            if digests["state"] != "built":
                return list(found)
            for entry in get_json(f"{base}/v1/partitions")["partitions"]:
                if (entry.get("held_from") or n + 1) <= n:
                    found[entry["partition"]].append(digests["digests"][entry["partition"]])
        return [p for p, digests in found.items() if len(digests) < n or len(set(digests)) != 1]

    def hints(self):
        """Hints that all hosts keep; more than none where one does not answer."""
        document = get_json(f"{self.url(1)}/v1/hints")
        if document["hints"] + document["unreachable"]:
            raise OSError(json.dumps(document))
        return 0

    def everywhere(self, bucket, key):
        """What every host that runs has of a key, and what it says of its life."""
        found = {}
        for k in self.numbers():
            try:
                found[k] = get_json(f"{self.url(k, STORAGE)}/v1/replica/kv/{bucket}/{key}")
            except OSError as error:
                found[k] = str(error)
        return found

    def cut(self, one_side, other_side):
        """Drops everything between the two groups of hosts, both ways."""
        a, b = (", ".join(self.ip(k) for k in side) for side in (one_side, other_side))
        self._nft(
            "table bridge split {\nchain between {\ntype filter hook forward priority 0; policy accept;\n"
            f"ip saddr {{ {a} }} ip daddr {{ {b} }} drop;\n"
            f"ip saddr {{ {b} }} ip daddr {{ {a} }} drop;\n}}\n}}\n"
        )

    def heal(self):
        """Ends the cut."""
        self._nft("delete table bridge split")

    def log(self, k, service):
        """What a process has logged."""
        return (self.data(k) / f"{service}.log").read_text(errors="replace")

    def _nft(self, rules):
        switch = f"--net=/run/netns/{self.switch()}"
        subprocess.run(["nsenter", switch, "nft", "-f", "-"], input=rules.encode(), check=True)

    def _network(self):
        """One namespace per host, and the switch, whose address the clients use."""
        switch = self.switch()
        if not self.beside:
            sh("ip", "netns", "add", switch)
            sh("ip", "-n", switch, "link", "add", "br0", "type", "bridge")
            sh("ip", "-n", switch, "addr", "add", f"{SUBNET}.254/24", "dev", "br0")
            for name in ("lo", "br0"):
                sh("ip", "-n", switch, "link", "set", name, "up")
        for k in self.numbers():
            host, port = f"{self.tag}-{k}", f"h{self.offset + k}"
            sh("ip", "netns", "add", host)
            sh("ip", "-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host)
            sh("ip", "-n", switch, "link", "set", port, "master", "br0", "up")
            sh("ip", "-n", host, "addr", "add", f"{self.ip(k)}/24", "dev", "eth0")
            for name in ("lo", "eth0"):
                sh("ip", "-n", host, "link", "set", name, "up")
        # This process is the client: it works on the switch from here on.
        if not self.beside:
            self._enter(switch)

    @staticmethod
    def _enter(name):
        import ctypes

        with open(f"/run/netns/{name}", "rb") as namespace:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(namespace.fileno(), 0x40000000) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    def _settings(self, k, service):
        folder = self.data(k)
        data = self.data_dir(k, service)
        data.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        port = SERVICES[service]
        lines = {
            "listen": f"0.0.0.0:{port}",
            "metrics_listen": f"0.0.0.0:{port + 1}",
            "data_dir": str(data),
        }
        if service == "membership":
            lines["name"] = f"host-{k}"
            lines["seeds"] = [self.address(j, MEMBERSHIP) for j in self.numbers() if j != k]
            lines["gossip_interval_ms"] = 250
        else:
            lines["membership"] = f"127.0.0.1:{MEMBERSHIP}"
        if service == "router":
            lines["expose_replicas"] = True
        if service == "storage-node":
            lines["cluster_secret"] = self.secret
        if service == "anti-entropy-worker":
            lines["storage"] = f"127.0.0.1:{STORAGE}"
            lines["exchange_interval_s"] = EXCHANGE_INTERVAL_S
        lines.update(self.settings.get(service, {}))
        # JSON and TOML write text, numbers, lists and truth alike.
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items())
        if service == "membership":
            text += "[advertise]\n"
            for name, other in [("router", ROUTER), ("storage", STORAGE), ("membership", MEMBERSHIP), ("worker", WORKER)]:
                text += f'{name} = "{self.address(k, other)}"\n'
            text += "[founding]\npartitions = 64\nspacing = 3\n"
        # The namespaces are the fence: scenarios speak to processes as operators do.
        text += '[peer_auth]\nmode = "none"\n'
        if service == "router":
            text += '[auth]\nmode = "none"\n'
        config = folder / f"{service}.toml"
        config.write_text(text)
        return config

    def _found(self):
        """Stages, plans and commits the founding, as an operator would."""
        agent = self.url(1, MEMBERSHIP)

        def complete():
            members = get_json(f"{agent}/v1/cluster")["members"]
            return len([m for m in members if m.get("addresses", {}).get("storage")]) == self.count

        eventually("the hosts know each other", complete)

        def founded():
            for k in range(1, self.founders + 1):
                post_json(f"{agent}/v1/cluster/stage", {"join": {"node": f"host-{k}"}})
            plan = get_json(f"{agent}/v1/cluster/plan")
            if plan["refusals"]:
                post_json(f"{agent}/v1/cluster/stage", {}, method="DELETE")
                raise OSError(f"refused: {plan['refusals']}")
            post_json(f"{agent}/v1/cluster/commit", {}, {"If-Match": f'"{plan["plan"]}"'})
            return True

        eventually("the founding is committed", founded)

        def all_hold():
            for k in self.numbers():
                nodes = get_json(f"{self.url(k)}/v1/ring")["nodes"]
                if len([n for n in nodes if n["status"] == "member" and n.get("holds")]) < self.founders:
                    return False
            return True

        eventually("every router sees every founder hold its share", all_hold)


class Workload:
    """Mixed load through the client library, with a verdict in the end."""

    def __init__(self, hosts, endpoints, seed, keys=200, clients=8):
        command = [os.environ["WORKLOAD_BINARY"], "--seed", str(seed)]
        command += ["--keys", str(keys), "--clients", str(clients)]
        for k in endpoints:
            command += ["--endpoint", hosts.url(k)]
        self.hosts = hosts
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, command):
        """Sends `stop` or `check`; the answer."""
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def judge(self):
        """Reads everything back; fails where something was lost, invented or has risen."""
        verdict = self.ask("check")
        self.process.stdin.close()
        self.process.wait()
        if not verdict["good"]:
            for problem in (verdict.get("lost", []) + verdict.get("risen", []))[:3]:
                key = problem.split(":")[0]
                print(problem, json.dumps(self.hosts.everywhere("workload", key)), file=sys.stderr)
                print("\n".join(verdict["writes"].get(key, [])), file=sys.stderr)
        assert verdict["good"], {name: verdict[name] for name in ("lost", "risen", "invented", "unread") if name in verdict}

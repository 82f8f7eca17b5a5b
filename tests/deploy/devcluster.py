"""A cluster of `atoll dev` on free ports in a directory of its own, a Prometheus that scrapes it, and a load that
makes things happen. All of them are contexts: started on entry, stopped by pid and gone on exit."""

import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

from cluster import Answer, until

PORTS_PER_HOST = 100
# Processes by the name that `atoll dev` and Kubernetes give them, with the offset of their metrics port.
CONTAINERS = {"request-router": 1, "storage-node": 11, "membership-svc": 21, "anti-entropy-worker": 31}
NAMESPACE = "dev"


def free_base(hosts: int) -> int:
    """A base port of which all ports that `hosts` hosts take are free."""
    for base in random.sample(range(20000, 30000, PORTS_PER_HOST), 100):
        wanted = [base + PORTS_PER_HOST * k + offset + api for k in range(hosts) for offset in (0, 10, 20, 30) for api in (0, 1)]
        taken = 0
        for port in wanted:
            with socket.socket() as probe:
                taken += probe.connect_ex(("127.0.0.1", port)) == 0
        if not taken:
            return base
    raise RuntimeError("no free ports")


class DevCluster:
    """Hosts of `atoll dev --secure`, numbered from 1."""

    def __init__(self, atoll: pathlib.Path, hosts: int = 3, spare: int = 1):
        self.atoll, self.hosts = atoll, hosts
        self.base = free_base(hosts + spare)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="atoll-monitoring-"))

    def __enter__(self) -> "DevCluster":
        command = [self.atoll, "dev", "--hosts", str(self.hosts), "--base-port", str(self.base), "--data", self.folder / "data", "--secure"]
        self.log = open(self.folder / "dev.log", "wb")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        try:
            until("the cluster is healthy", 60, lambda: self.health() == "healthy" or self.health())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def router(self, host: int) -> int:
        """Port of a host's router."""
        return self.base + PORTS_PER_HOST * (host - 1)

    def key(self) -> str:
        """The API key that may do everything; an OSError before there is one."""
        return (self.folder / "data/admin-key").read_text().strip()

    def tls(self) -> ssl.SSLContext:
        """How a host of the cluster speaks TLS; an OSError before there are certificates."""
        context = ssl.create_default_context(cafile=self.folder / "data/ca.crt")
        context.load_cert_chain(self.folder / "data/tls.crt", self.folder / "data/tls.key")
        return context

    def endpoints(self) -> str:
        """All routers, for the command line."""
        return ",".join(f"https://127.0.0.1:{self.router(host)}" for host in range(1, self.hosts + 1))

    def command(self, *args: object, timeout: float = 120) -> str:
        """A command of `atoll` that must succeed."""
        about_dev = args[0] == "dev"
        where = ["--data", self.folder / "data"] if about_dev else ["--endpoint", self.endpoints()]
        environment = {**os.environ, "ATOLL_API_KEY": self.key(), "ATOLL_CA_FILE": str(self.folder / "data/ca.crt")}
        command = [self.atoll, *map(str, args), *where]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)
        if done.returncode:
            raise RuntimeError(f"atoll {' '.join(map(str, args))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def ask(self, host: int, method: str, path: str, body: bytes | None = None, offset: int = 0, **headers: str) -> Answer:
        """One request to the router of a host, or to another of its listeners."""
        where = ("127.0.0.1", self.router(host) + offset)
        plain = offset in CONTAINERS.values()
        connection = http.client.HTTPConnection(*where, timeout=10) if plain else http.client.HTTPSConnection(*where, timeout=10, context=self.tls())
        head = {"Authorization": f"Bearer {self.key()}"} | {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, head)
            return Answer(connection.getresponse())
        except http.client.HTTPException as error:
            raise OSError(f"host {host}: {error!r}") from error
        finally:
            connection.close()

    def health(self) -> str:
        """What the first router says of the cluster."""
        return self.ask(1, "GET", "/v1/cluster/health").json()["status"]

    def scrape(self, host: int, container: str) -> str:
        """The metrics of one process."""
        answer = self.ask(host, "GET", "/metrics", offset=CONTAINERS[container])
        assert answer.status == 200, (host, container, answer.status)
        return answer.body.decode()


class Load:
    """Clients of the first `hosts` routers: reads, writes, siblings, deletes, and requests that are refused."""

    def __init__(self, cluster: DevCluster, hosts: int = 2, clients: int = 3):
        self.cluster, self.hosts = cluster, hosts
        self.done = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(random.Random(i),), daemon=True) for i in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, dice: random.Random) -> None:
        while not self._stop.is_set():
            try:
                self._turn(dice)
            except OSError:
                # The host of this turn is away; the next turn takes another.
                time.sleep(0.05)
            time.sleep(0.01)

    def _turn(self, dice: random.Random) -> None:
        """One key: written twice without looking (siblings), read, merged, deleted now and then; and a mistake."""
        host, key = dice.randint(1, self.hosts), f"/v1/kv/load/{dice.randrange(200)}"
        ask = self.cluster.ask
        ask(host, "PUT", key, dice.randbytes(300))
        if dice.random() < 0.3:
            name = str(uuid.UUID(int=dice.getrandbits(128)))
            for _ in range(2):
                ask(host, "PUT", key, b"twice", Idempotency_Key=name)
        seen = ask(host, "GET", key)
        if seen.status in (200, 300):
            ask(host, "PUT", key, b"merged", X_Atoll_Context=seen.context)
        ask(host, "GET", f"{key}?r=1")
        if dice.random() < 0.1:
            ask(host, "DELETE", key)
            ask(host, "GET", key)
        if dice.random() < 0.1:
            ask(host, "GET", f"{key}?no_such_parameter=1")
            ask(host, "PUT", f"{key}?pw=3&w=3&timeout_ms=300", b"all of them")
        self.done += 1

    def progress(self, what: str, turns: int = 30) -> None:
        """So many turns more."""
        goal = self.done + turns
        until(f"load while {what}", 60, lambda: self.done >= goal)


class Prometheus:
    """Debian's Prometheus on a free port, with the labels that pods have on Kubernetes."""

    def __init__(self, cluster: DevCluster, hosts: int, rules: pathlib.Path):
        self.cluster, self.hosts, self.rules = cluster, hosts, rules
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def config(self) -> dict:
        """Scrapes every second, evaluates the rules every second."""
        targets = [
            {"targets": [f"127.0.0.1:{self.cluster.router(host) + offset}"],
             "labels": {"namespace": NAMESPACE, "pod": f"host-{host}", "container": container}}
            for host in range(1, self.hosts + 1) for container, offset in CONTAINERS.items()
        ]
        return {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [str(self.rules)],
            "scrape_configs": [{"job_name": "atoll", "static_configs": targets}],
        }

    def __enter__(self) -> "Prometheus":
        folder = self.cluster.folder / "prometheus"
        folder.mkdir()
        # JSON is YAML.
        (folder / "prometheus.yml").write_text(json.dumps(self.config()))
        self.log = open(folder / "log", "wb")
        command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
                   f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, start_new_session=True)
        self.begun = time.time()
        try:
            until("Prometheus scrapes the founders", 60, lambda: self.up() >= self.cluster.hosts * len(CONTAINERS) or self.up())
        except BaseException:
            print((folder / "log").read_text()[-2000:])
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def api(self, path: str, **query: object):
        """The data of an answer."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error.read().decode()[:500]}") from error

    def up(self) -> int:
        """Processes that are scraped."""
        result = self.api("query", query="sum(up)")["result"]
        return int(result[0]["value"][1]) if result else 0

    def samples(self, query: str) -> list[tuple[dict, list[float]]]:
        """Every series of a query over the whole run, second by second."""
        data = self.api("query_range", query=query, start=self.begun, end=time.time(), step="1s")
        return [(series["metric"], [float(v) for _, v in series["values"]]) for series in data["result"]]

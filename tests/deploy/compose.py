"""The image and the composition for real: an engine of our own, three hosts of four processes, failures.
Usage: compose.py ROOT CACHE [--bin DIR]   (DIR has the static binaries; without it they are compiled)"""

import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import yaml

import image as packing
from cluster import OPEN, PORTS, Answer, Door, Load, ask, lost, until
from lab import COMPOSE, DOCKER, LAB, Engine, Outside, run
from rendered import Rendered
from sources import SERVICES

IMAGE = "atoll:test"
PROMETHEUS = "prom/prometheus:test"
# The second goes on top of the first.
COMPOSITION = ["compose.yaml", "compose.secure.yaml"]
HOSTS = ["h1", "h2", "h3"]
PROCESSES = ["membership", "storage", "router", "worker"]
RULES = "helm/atoll/rules/atoll.rules.yaml"


class Lab:
    """What the steps share."""

    def __init__(self, root: pathlib.Path, cache: pathlib.Path, bins: pathlib.Path, engine: Engine):
        self.root, self.cache, self.bins, self.engine = root, cache, bins, engine
        self.secrets = engine.folder / "context/docker/secrets"
        self.load = Load()
        self.files, self.door = COMPOSITION[:1], OPEN

    def docker(self, *args: object) -> str:
        return self.engine.docker(*args)

    def compose(self, *args: object) -> str:
        files = [arg for file in self.files for arg in ("-f", self.root / "docker" / file)]
        env = {**self.engine.env, "ATOLL_IMAGE": IMAGE, "PROMETHEUS_IMAGE": PROMETHEUS,
               "ATOLL_SECRET_FILE": str(self.secrets / "cluster_secret"), "ATOLL_HOST_SECRETS": str(self.secrets / "host")}
        return run(*COMPOSE, "-p", "lab", *files, *args, env=env)

    def page(self, scheme: str) -> list[str]:
        """What the commands of the page answer that have such addresses."""
        lines = (self.root / "docker/README.md").read_text().splitlines()
        commands = [line for line in lines if line.startswith("curl ") and ("https:" in line) == (scheme == "https")]
        return [run("bash", "-c", f"{c} --silent --show-error --fail", cwd=self.secrets.parent.parent) for c in commands]

    def containers(self) -> dict[str, dict]:
        """What the engine knows of the container of each service."""
        ids = self.docker("ps", "-aq", "-f", "label=com.docker.compose.project=lab").split()
        about = json.loads(self.docker("inspect", *ids)) if ids else []
        return {container["Config"]["Labels"]["com.docker.compose.service"]: container for container in about}

    def id(self, service: str) -> str:
        return self.containers()[service]["Id"]

    def services(self) -> list[str]:
        return [*HOSTS, *(f"{host}-{process}" for host in HOSTS for process in PROCESSES)]

    def healthy(self) -> bool | str:
        """Whether every container is, and the cluster; else who is not."""
        containers = self.containers()
        states = {s: containers[s]["State"] for s in self.services()}
        bad = {s: state.get("Health", {}).get("Status", state["Status"]) for s, state in states.items()}
        bad = {s: status for s, status in bad.items() if status != "healthy"}
        if bad:
            logs = {s: self.docker("logs", "--tail", "3", containers[s]["Id"]) for s in list(bad)[:2]}
            return f"{bad} {logs}"
        return self.converged()

    def converged(self) -> bool | str:
        for host in HOSTS:
            health = ask(host, "GET", "/v1/cluster/health", door=self.door).json()
            if health["status"] != "healthy" or health["hints"]:
                return f"{host}: {health}"
        return True


def settings(lab: Lab) -> str:
    """The real binaries accept the settings and variables that the chart and the composition give them."""
    chart = lab.root / "helm/atoll"
    checked = 0
    values = [p for p in sorted((chart / "ci").glob("*-values.yaml")) if "gitops" not in p.name]
    for path in values:
        r = Rendered(run(lab.cache / "bin/helm4", "template", "atoll", chart, "-n", "shop", "-f", path))
        files = r.one("ConfigMap", "-config")["data"]
        for name, (_, file) in SERVICES.items():
            env = container_env(r.containers()[name])
            checked += accepts(lab, name, files[file], env)
    plain, secured = (yaml.safe_load((lab.root / "docker" / f).read_text())["services"] for f in COMPOSITION)
    for name, service in plain.items():
        command, env = service["command"], service.get("environment", {})
        if "--config" in command:
            text = (lab.root / "docker/config" / pathlib.Path(command[2]).name).read_text()
            checked += accepts(lab, command[0], text, env)
            checked += accepts(lab, command[0], text, env | secured[name]["environment"])
    refused = subprocess.run([lab.bins / "storage-node", "--print-config", "--set", "no_such_setting=1"], capture_output=True)
    assert refused.returncode == 78, "an unknown setting must stop a process with 78"
    return f"{checked} sets of settings"


def container_env(container: dict) -> dict[str, str]:
    """Variables as Kubernetes would resolve them."""
    env: dict[str, str] = {}
    for variable in container.get("env", []):
        field = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        value = {"metadata.name": "atoll-0", "spec.nodeName": "node-1"}.get(field, "zone-1") if field else variable["value"]
        for known, text in env.items():
            value = value.replace(f"$({known})", text)
        env[variable["name"]] = value
    return env


def accepts(lab: Lab, binary: str, text: str, env: dict[str, str]) -> int:
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        command = [lab.bins / binary, "--config", file.name, "--print-config"]
        done = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"], **env})
    assert done.returncode == 0, f"{binary}: {done.stderr.strip()}\n{text}"
    return 1


def image(lab: Lab) -> str:
    """The image from binaries."""
    packing.build(lab.engine, lab.engine.folder / "context", IMAGE, "--target", "prebuilt")
    return packing.check(lab.root, lab.engine, IMAGE)


def start(lab: Lab) -> str:
    """Everything starts, founds its cluster by itself and turns healthy."""
    make_secrets(lab)
    begun = time.monotonic()
    lab.compose("up", "-d")
    until("healthy", 120, lab.healthy)
    took = time.monotonic() - begun
    members = ask("h1", "GET", "/v1/cluster").json()["members"]
    assert sorted(m["name"] for m in members) == HOSTS, members
    for service, container in lab.containers().items():
        rights(service, container)
    return f"healthy after {took:.0f} s"


def make_secrets(lab: Lab) -> None:
    """What is there stays when it is asked for again."""
    env = {**lab.engine.env, "ATOLL_IMAGE": IMAGE, "PATH": f"{pathlib.Path(DOCKER).parent}:{os.environ['PATH']}"}
    found = []
    for _ in range(2):
        run(lab.root / "docker/make-secrets", lab.secrets, env=env)
        found.append({path: path.read_bytes() for path in lab.secrets.rglob("*") if path.is_file()})
    names = {"cluster_secret", "ca.crt", "ca.key", "admin-key", "peer-keys", "tls.crt", "tls.key", "keys.json"}
    made = {path.name for path in found[0]} - {".keys.json.lock"}
    assert made == names and found[0] == found[1], made


def rights(service: str, container: dict) -> None:
    """A process has those of its user, and can get no others."""
    lines = pathlib.Path(f"/proc/{container['State']['Pid']}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert set(status["Uid"].split() + status["Gid"].split()) == {str(packing.USER)}, (service, status)
    assert (int(status["CapEff"], 16), int(status["CapBnd"], 16), status["NoNewPrivs"]) == (0, 0, "1"), (service, status)
    assert container["HostConfig"]["ReadonlyRootfs"], service


def tour(lab: Lab) -> str:
    """What the page says; then put, get, siblings, merge, delete, through different hosts."""
    answers = lab.page("http")
    assert len(answers) > 1 and '{"book":1}' in answers[-1] and " 200 OK" in answers[-1], answers
    path = "/v1/kv/carts/alice"
    got = ask("h3", "GET", path)
    assert (got.status, got.body, got.headers["content-type"]) == (200, b'{"book":1}', "application/json")
    for host, value in [("h1", b'{"book":2}'), ("h2", b'{"pen":1}')]:
        assert ask(host, "PUT", path, value, X_Atoll_Context=got.context).status == 204
    both = ask("h3", "GET", path)
    assert both.status == 300 and both.headers["x-atoll-siblings"] == "2", (both.status, both.body)
    assert ask("h3", "PUT", path, b"merged", X_Atoll_Context=both.context).status == 204
    assert ask("h1", "GET", path).body == b"merged"
    assert ask("h2", "DELETE", path).status == 204
    gone = ask("h3", "GET", path)
    assert (gone.status, gone.headers.get("x-atoll-deleted")) == (404, "true")
    lab.docker("exec", lab.id("h1-router"), "atoll", "smoke")
    return f"{len(answers)} commands of the page, siblings, merge, delete, atoll smoke"


def failures(lab: Lab) -> str:
    """A hang, a death and a cut under load: nothing is refused, nothing acknowledged is lost."""
    h3 = lab.id("h3")
    with lab.load as load:
        load.progress("all is well")
        lab.compose("pause", "h2-storage")
        load.progress("the storage node of h2 hangs", 20)
        lab.compose("unpause", "h2-storage")
        lab.compose("kill", "-s", "KILL", "h3-storage", "h1-membership", "h2-router")
        load.progress("processes of three kinds are dead", 20)
        # The policy of restarts is for processes that end by themselves.
        lab.compose("start", "h3-storage", "h1-membership", "h2-router")
        until("healthy after kills", 90, lab.healthy)
        lab.docker("network", "disconnect", "lab_ring", h3)
        load.progress("h3 is cut off", 30)
        both_sides(lab)
        lab.docker("network", "connect", "--alias", "h3", "lab_ring", h3)
        load.progress("h3 is back", 30)
    until("converged after the cut", 120, lab.healthy)
    assert not load.refused, f"{len(load.refused)} writes refused: {load.refused[:3]}"
    missing = lost(load.acked)
    assert not missing, f"{len(missing)} of {len(load.acked)} lost: {missing[:5]}"
    apart = ask("h1", "GET", "/v1/kv/carts/apart")
    values = sorted(s["value"] for s in apart.json()["siblings"])
    assert (apart.status, values) == (300, ["majority", "minority"]), (apart.status, apart.body)
    return f"{len(load.acked)} writes acknowledged, {load.retried} after a retry, 0 refused, 0 lost"


def both_sides(lab: Lab) -> None:
    """Both sides of the cut take writes of one key."""
    until("the majority writes", 10, lambda: ask("h1", "PUT", "/v1/kv/carts/apart", b"majority").status == 204)
    put = ["atoll", "put", "carts", "apart", "minority", "--w", "1"]
    until("the minority writes", 20, lambda: lab.docker("exec", lab.id("h3-router"), *put) is not None)


def stop(lab: Lab) -> str:
    """A host stops under load, then all of them: every process ends by itself within its grace, and everything is
    there when they are back."""
    host = [f"h2-{process}" for process in PROCESSES]
    with Load() as load:
        load.progress("all is well")
        in_flight(lab)
        lab.compose("stop", *host)
        ended(lab, host)
        load.progress("h2 is stopped", 20)
        lab.compose("start", *host)
        until("healthy after the stop of h2", 90, lab.healthy)
    assert not load.refused, f"{len(load.refused)} writes refused: {load.refused[:3]}"
    begun = time.monotonic()
    lab.compose("stop")
    stopped = time.monotonic()
    ended(lab, lab.services())
    lab.compose("start")
    until("healthy after the stop of all", 90, lab.healthy)
    back = time.monotonic()
    missing = lost(lab.load.acked | load.acked, hosts=("h2",))
    assert not missing, f"{len(missing)} lost: {missing[:5]}"
    return f"all stopped within {stopped - begun:.0f} s, healthy again {back - stopped:.0f} s later"


def in_flight(lab: Lab) -> None:
    """A request that is half sent when its router is told to stop is answered."""
    router = lab.id("h2-router")
    connection = OPEN.connect(PORTS["h2"], 30)
    connection.putrequest("PUT", "/v1/kv/carts/slow")
    connection.putheader("Content-Length", "10")
    connection.endheaders(b"half ")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        stopped = pool.submit(lab.docker, "stop", router)
        until("the router is about to stop", 20, lambda: not ready(lab, router, 7701))
        assert not stopped.done(), "the router did not wait for a request in flight"
        connection.send(b"later")
        answer = Answer(connection.getresponse())
        assert answer.status == 204, (answer.status, answer.body)
        stopped.result()
    assert ask("h1", "GET", "/v1/kv/carts/slow").body == b"half later"


def ready(lab: Lab, container: str, port: int) -> bool:
    try:
        lab.docker("exec", container, "atoll", "health", "--process", f"127.0.0.1:{port}")
        return True
    except RuntimeError:
        return False


def ended(lab: Lab, services: list[str]) -> None:
    """Who is killed at the end of the grace has another code."""
    containers = lab.containers()
    states = {s: containers[s]["State"] for s in services}
    bad = {s: state for s, state in states.items() if (state["Status"], state["ExitCode"]) != ("exited", 0)}
    assert not bad, bad


def secure(lab: Lab) -> str:
    """The same cluster with API keys, signatures and TLS: what was written is there for who has a key, and for nobody else."""
    lab.compose("stop")
    lab.files = COMPOSITION
    lab.door = Door(lab.secrets / "ca.crt", (lab.secrets / "admin-key").read_text().strip())
    lab.compose("up", "-d")
    until("healthy with TLS", 120, lab.healthy)
    missing = lost(lab.load.acked, hosts=("h2",), door=lab.door)
    assert not missing, f"{len(missing)} lost: {missing[:5]}"
    answers = lab.page("https")
    assert len(answers) > 1 and '{"pen":1}' in answers[-1] and " 200 OK" in answers[-1], answers
    stranger = ask("h1", "GET", "/v1/kv/carts/bob", door=Door(lab.secrets / "ca.crt"))
    assert (stranger.status, stranger.json()["code"]) == (401, "unauthorized"), stranger.body
    try:
        plain = ask("h1", "GET", "/v1/kv/carts/bob")
        raise AssertionError(f"{plain.status} in clear")
    except OSError:
        pass
    key = f"ATOLL_API_KEY={(lab.secrets / 'admin-key').read_text().strip()}"
    lab.docker("exec", "-e", key, lab.id("h1-router"), "atoll", "smoke")
    further_key(lab)
    return f"{len(answers)} commands of the page, atoll smoke; no answer in clear, 401 without a key; a new key works"


def further_key(lab: Lab) -> None:
    """A key that is made while everything runs is good for its scopes, soon and everywhere."""
    new = ["atoll", "keys", "new", "app", "--scope", "read", "--file", "/keys/keys.json"]
    key = lab.docker("run", "--rm", "--network=none", "-v", f"{lab.secrets / 'host'}:/keys", IMAGE, *new).strip()
    app = Door(lab.secrets / "ca.crt", key)
    for host in HOSTS:
        until(f"{host} knows the new key", 30, lambda: ask(host, "GET", "/v1/kv/carts/bob", door=app).status == 200)
        assert ask(host, "DELETE", "/v1/kv/carts/bob", door=app).status == 403


def monitoring(lab: Lab) -> str:
    """Prometheus scrapes every process, under the names that it has on Kubernetes, and evaluates the rules of the chart.
    What rules and dashboards make of it is the matter of `run monitoring`."""
    stand_in(lab)
    lab.compose("--profile", "monitoring", "up", "-d", "prometheus")
    wanted = {("compose", host, container) for host in HOSTS for container in SERVICES}
    until("all targets are scraped", 60, lambda: targets() == wanted or targets())
    names = {r["alert"] for g in yaml.safe_load((lab.root / RULES).read_text())["groups"] for r in g["rules"]}
    until("all rules are evaluated", 60, lambda: evaluated() == names or names - evaluated())
    return f"{len(wanted)} targets, {len(names)} rules"


def remove(lab: Lab) -> str:
    """Nothing of it stays but the image."""
    lab.compose("--profile", "monitoring", "down", "-v")
    left = lab.docker("ps", "-aq") + lab.docker("volume", "ls", "-q") + lab.docker("network", "ls", "-q", "-f", "name=lab")
    assert not left, left
    return ""


def prometheus(path: str, **query: str) -> dict:
    args = [arg for name, value in query.items() for arg in ("--data-urlencode", f"{name}={value}")]
    return json.loads(run("curl", "-sS", "-G", f"http://127.0.0.1:9090{path}", *args))


def targets() -> set[tuple[str, str, str]]:
    """Those that answer, by the labels that dashboards and rules go by."""
    result = prometheus("/api/v1/query", query='up{job="atoll"} == 1')["data"]["result"]
    return {tuple(series["metric"][name] for name in ("namespace", "pod", "container")) for series in result}


def evaluated() -> set[str]:
    groups = prometheus("/api/v1/rules")["data"]["groups"]
    return {rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "ok"}


def stand_in(lab: Lab) -> None:
    """An image of Debian's Prometheus with its libraries, in place of the published one."""
    folder = lab.engine.folder / "prometheus"
    needed = ["/usr/bin/prometheus"]
    needed += [word for word in run("ldd", needed[0]).split() if word.startswith("/")]
    for path in needed:
        target = folder / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(path), target)
    (folder / "prometheus").mkdir()
    archive = lab.engine.folder / "prometheus.tar"
    run("tar", "-C", folder, "-cf", archive, ".")
    lab.docker("import", "-c", 'ENTRYPOINT ["/usr/bin/prometheus"]', archive, PROMETHEUS)


STEPS = [settings, image, start, tour, failures, stop, secure, monitoring, remove]


def inside(root: pathlib.Path, cache: pathlib.Path, bins: pathlib.Path) -> int:
    engine = Engine(pathlib.Path(os.environ[LAB]))
    engine.start()
    lab = Lab(root, cache, bins, engine)
    for step in STEPS:
        begun = time.monotonic()
        try:
            text = step(lab)
        except (AssertionError, RuntimeError, OSError) as finding:
            print(f"FAIL {step.__name__}: {finding}", flush=True)
            return 1
        print(f"ok   {step.__name__:<10} {time.monotonic() - begun:5.1f} s  {text}", flush=True)
    return 0


def main() -> int:
    root, cache = (pathlib.Path(p).resolve() for p in sys.argv[1:3])
    bins = pathlib.Path(sys.argv[4]).resolve() if sys.argv[3:4] == ["--bin"] else packing.build_binaries(root)
    if LAB in os.environ:
        return inside(root, cache, bins)
    with Outside() as outside:
        packing.pack(root, bins, outside.folder / "context")
        return outside.inside(__file__, root, cache, "--bin", bins)


if __name__ == "__main__":
    sys.exit(main())

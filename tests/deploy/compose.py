"""The image and the composition for real: an engine of our own, three hosts of four processes, failures.
Usage: compose.py ROOT CACHE [--bin DIR]   (DIR has the static binaries; without it they are compiled)"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import yaml

from cluster import Load, ask, lost, until
from lab import COMPOSE, Engine, in_namespace, run
from rendered import Rendered
from sources import FOREIGN_METRICS, SERVICES, metrics_of

BINARIES = ["atoll", *SERVICES]
TARGET = "x86_64-unknown-linux-gnu"
IMAGE = "atoll:test"
PROMETHEUS = "prom/prometheus:test"
HOSTS = ["h1", "h2", "h3"]
PROCESSES = {"membership": 7721, "storage": 7711, "router": 7701, "worker": 7731}


class Lab:
    """What the steps share."""

    def __init__(self, root: pathlib.Path, cache: pathlib.Path, bins: pathlib.Path, engine: Engine):
        self.root, self.cache, self.bins, self.engine = root, cache, bins, engine
        self.secret = engine.folder / "cluster_secret"
        self.load = Load()

    def docker(self, *args: object) -> str:
        return self.engine.docker(*args)

    def compose(self, *args: object) -> str:
        env = {**self.engine.env, "ATOLL_IMAGE": IMAGE, "ATOLL_SECRET_FILE": str(self.secret), "PROMETHEUS_IMAGE": PROMETHEUS}
        return run(COMPOSE, "-p", "lab", "-f", self.root / "docker/compose.yaml", *args, env=env)

    def id(self, service: str) -> str:
        return self.compose("ps", "-q", service).strip()

    def state(self, service: str) -> dict:
        return json.loads(self.docker("inspect", self.id(service)))[0]["State"]

    def services(self) -> list[str]:
        return [*HOSTS, *(f"{host}-{process}" for host in HOSTS for process in PROCESSES)]

    def healthy(self) -> bool | str:
        """Whether every container is, and the cluster; else who is not."""
        states = {s: self.state(s) for s in self.services()}
        bad = {s: state.get("Health", {}).get("Status", state["Status"]) for s, state in states.items()}
        bad = {s: status for s, status in bad.items() if status != "healthy"}
        if bad:
            logs = {s: self.docker("logs", "--tail", "3", self.id(s)) for s in list(bad)[:2]}
            return f"{bad} {logs}"
        return self.converged()

    def converged(self) -> bool | str:
        for host in HOSTS:
            health = ask(host, "GET", "/v1/cluster/health").json()
            if health["status"] != "healthy" or health["hints"]:
                return f"{host}: {health}"
        return True

    def scrape(self, host: str, port: int) -> str:
        """Metrics of a process, asked from inside its host."""
        pid = self.state(host)["Pid"]
        return run("nsenter", f"--net=/proc/{pid}/ns/net", "curl", "-sS", "--fail", f"http://127.0.0.1:{port}/metrics")


def build_binaries(root: pathlib.Path) -> pathlib.Path:
    """Static binaries, without optimization across crates: this is about packing."""
    env = {**os.environ, "RUSTFLAGS": "-C target-feature=+crt-static", "CARGO_PROFILE_RELEASE_LTO": "off",
           "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16"}
    packages = [arg for crate in ["atoll-cli", *(crate for crate, _ in SERVICES.values())] for arg in ("-p", crate)]
    # The explicit target keeps build scripts and procedural macros dynamic.
    command = ["cargo", "build", "--release", "--locked", "--target", TARGET, "--bins", *packages]
    subprocess.run(command, cwd=root, env=env, check=True)
    return pathlib.Path(env.get("CARGO_TARGET_DIR", root / "target")) / TARGET / "release"


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
    document = yaml.safe_load((lab.root / "docker/compose.yaml").read_text())
    for service in document["services"].values():
        command = service["command"]
        if "--config" in command:
            file = lab.root / "docker/config" / pathlib.Path(command[2]).name
            checked += accepts(lab, command[0], file.read_text(), service.get("environment", {}))
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
    """Static binaries on nothing, for a user that is not root, with labels and a health check."""
    context = lab.engine.folder / "context"
    (context / "dist").mkdir(parents=True)
    for name in BINARIES:
        run("strip", "-o", context / "dist" / name, lab.bins / name)
        linked = subprocess.run(["ldd", context / "dist" / name], capture_output=True, text=True)
        static = ("statically linked", "not a dynamic executable")
        assert any(text in linked.stdout + linked.stderr for text in static), f"{name} is not static"
    shutil.copytree(lab.root / "docker", context / "docker", ignore=shutil.ignore_patterns("secrets"))
    shutil.copy(lab.root / "LICENSE", context)
    lab.docker("build", "-q", "--network=none", "-f", context / "docker/Dockerfile", "--target", "prebuilt", "-t", IMAGE,
               "--build-arg", "REVISION=test", context)
    about = json.loads(lab.docker("image", "inspect", IMAGE))[0]
    config = about["Config"]
    assert config["User"] == "65532:65532" and config["Healthcheck"]["Test"][2:] == ["health", "--local"], config
    assert config["Labels"]["org.opencontainers.image.revision"] == "test", config["Labels"]
    plain = ["run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL", IMAGE]
    for name in BINARIES:
        lab.docker(*plain, name, "--help")
    try:
        lab.docker(*plain, "sh")
        raise AssertionError("there is a shell in the image")
    except RuntimeError:
        return f"{about['Size'] / 1e6:.0f} MB"


def start(lab: Lab) -> str:
    """Everything starts, founds its cluster by itself and turns healthy."""
    lab.secret.write_text(os.urandom(32).hex())
    lab.secret.chmod(0o400)
    os.chown(lab.secret, 65532, 65532)
    begun = time.monotonic()
    lab.compose("up", "-d")
    until("healthy", 120, lab.healthy)
    members = ask("h1", "GET", "/v1/cluster").json()["members"]
    assert sorted(m["name"] for m in members) == HOSTS, members
    return f"healthy after {time.monotonic() - begun:.0f} s"


def tour(lab: Lab) -> str:
    """Put, get, siblings, merge, delete, through different hosts."""
    path = "/v1/kv/carts/alice"
    assert ask("h1", "PUT", path, b'{"book":1}', Content_Type="application/json").status == 204
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
    return "put, get, siblings, merge, delete, atoll smoke"


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


def restart(lab: Lab) -> str:
    """All processes stop in order within their grace, and everything is there when they are back."""
    processes = [s for s in lab.services() if s not in HOSTS]
    # As Kubernetes stops a pod: router and worker, the storage node, the agent.
    for group in (["router", "worker"], ["storage"], ["membership"]):
        lab.compose("stop", "-t", "30", *(s for s in processes if s.split("-")[1] in group))
    codes = {s: self["ExitCode"] for s in processes if (self := lab.state(s))["ExitCode"] != 0}
    assert not codes, f"exit codes {codes}"
    begun = time.monotonic()
    lab.compose("start", *processes)
    until("healthy after the restart", 90, lab.healthy)
    took = time.monotonic() - begun
    missing = lost(lab.load.acked, hosts=("h2",))
    assert not missing, f"{len(missing)} lost: {missing[:5]}"
    return f"healthy again after {took:.0f} s"


def monitoring(lab: Lab) -> str:
    """Metrics are clean, and every metric of rules and dashboards is exposed; Prometheus scrapes all of it."""
    exposed = set(FOREIGN_METRICS)
    for process, port in PROCESSES.items():
        text = lab.scrape("h1", port)
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
        findings = [line for line in checked.stderr.splitlines() if line.startswith("atoll_")]
        assert not findings, f"{process}: {findings}"
        exposed |= {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    asked = [(r["alert"], r["expr"]) for g in rules(lab) for r in g["rules"]] + list(panels(lab))
    for where, expression in asked:
        unknown = metrics_of(expression) - exposed
        assert not unknown, f"{where}: no process exposes {unknown}"
    stand_in(lab)
    lab.compose("--profile", "monitoring", "up", "-d", "prometheus")
    until("all targets scraped", 60, lambda: up(lab) == len(HOSTS) * len(PROCESSES) or up(lab))
    for where, expression in panels(lab):
        query = expression.replace("$__rate_interval", "1m").replace("$namespace", ".*").replace("$pod", ".*")
        answer = prometheus("/api/v1/query", query=query)
        assert answer["status"] == "success", f"{where}: {answer}"
    loaded = prometheus("/api/v1/rules")["data"]["groups"]
    assert len(loaded) == len(rules(lab)), f"{len(loaded)} groups of rules"
    bad = [r["lastError"] for g in loaded for r in g["rules"] if r.get("lastError")]
    assert not bad, bad
    return f"{len(exposed)} metrics, {len(asked)} queries, {up(lab)} targets"


def rules(lab: Lab) -> list[dict]:
    return yaml.safe_load((lab.root / "helm/atoll/rules/atoll.rules.yaml").read_text())["groups"]


def panels(lab: Lab):
    for path in sorted((lab.root / "helm/atoll/dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.name}, {panel['title']}", target["expr"]


def prometheus(path: str, **query: str) -> dict:
    args = [arg for name, value in query.items() for arg in ("--data-urlencode", f"{name}={value}")]
    return json.loads(run("curl", "-sS", "-G", f"http://127.0.0.1:9090{path}", *args))


def up(lab: Lab) -> int:
    result = prometheus("/api/v1/query", query='sum(up{job="atoll"})')["data"]["result"]
    return int(result[0]["value"][1]) if result else 0


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


STEPS = [settings, image, start, tour, failures, restart, monitoring]


def main() -> int:
    in_namespace()
    root, cache = (pathlib.Path(p) for p in sys.argv[1:3])
    bins = pathlib.Path(sys.argv[4]) if sys.argv[3:4] == ["--bin"] else build_binaries(root)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="atoll-lab-")) / "engine"
    try:
        with Engine(folder) as engine:
            lab = Lab(root, cache, bins.resolve(), engine)
            for step in STEPS:
                begun = time.monotonic()
                try:
                    text = step(lab)
                except (AssertionError, RuntimeError, OSError) as finding:
                    print(f"FAIL {step.__name__}: {finding}", flush=True)
                    return 1
                print(f"ok   {step.__name__:<10} {time.monotonic() - begun:5.1f} s  {text}", flush=True)
            lab.compose("--profile", "monitoring", "down", "-v", "-t", "5")
        return 0
    finally:
        shutil.rmtree(folder.parent, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())

"""The Helm chart without a cluster: lint, render over a matrix of values, validate, and hold the rendered
objects to the services' sources. Usage: chart.py ROOT CACHE"""

import base64
import concurrent.futures
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import kubernetes_validate
import yaml

import assertions
import dashboards
import instep
import reference
from apiserver import ApiServer
from rendered import Rendered, matches, selectors, spread_selectors
from sources import FOREIGN_METRICS, SERVICES, Sources, metrics_of

KUBE_VERSIONS = ["1.30", "1.33", "1.36"]
HELMS = ["helm3", "helm4"]
MONITORING = "monitoring.coreos.com/v1"


class Failed(Exception):
    """A finding, in one line or more."""


class Chart:
    """The chart, rendered by one Helm or the other."""

    def __init__(self, root: pathlib.Path, cache: pathlib.Path):
        self.root, self.cache = root, cache
        self.path = root / "helm/atoll"

    def helm(self, helm: str, *args: object) -> subprocess.CompletedProcess[str]:
        command = [str(self.cache / "bin" / helm), *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True)

    def render(self, *args: object, helm: str = "helm4", kube: str = "1.36", release: str = "rel", path=None) -> Rendered:
        done = self.helm(helm, "template", release, path or self.path, "-n", "shop", "--kube-version", kube, *args)
        if done.returncode:
            raise Failed(f"{helm} template {args}: {done.stderr.strip()}")
        return Rendered(done.stdout)

    def values(self) -> list[pathlib.Path]:
        found = sorted((self.path / "ci").glob("*-values.yaml")) + [self.path / "values-dev.yaml"]
        assert len(found) > 5, "where are the values?"
        return found


def lint(chart: Chart) -> str:
    """Lint by both Helms, over all values."""
    for helm in HELMS:
        for values in chart.values():
            done = chart.helm(helm, "lint", "--strict", chart.path, "-f", values)
            if done.returncode or "[WARNING]" in done.stdout:
                raise Failed(f"{helm} lint -f {values.name}: {done.stdout}{done.stderr}")
    return f"{len(HELMS) * len(chart.values())} lints"


def matrix(chart: Chart) -> str:
    """Both Helms render the same, for each version of Kubernetes; it validates, and every assertion holds."""
    sources = Sources(chart.root)
    objects, custom = 0, []
    for values in chart.values():
        args = ["-f", values, "--api-versions", MONITORING]
        for kube in KUBE_VERSIONS:
            three, four = (chart.render(*args, helm=helm, kube=kube) for helm in HELMS)
            if three.stable() != four.stable():
                raise Failed(f"{values.name}, {kube}: Helm 3 and 4 differ")
            for o in four.objects:
                objects += 1
                if o["apiVersion"] == MONITORING:
                    continue
                try:
                    kubernetes_validate.validate(o, kube, strict=True)
                except Exception as error:
                    raise Failed(f"{values.name}, {kube}, {o['kind']}: {error}") from error
        custom += four.custom()
        for check in assertions.ALL:
            try:
                check(four, sources)
            except (AssertionError, LookupError) as error:
                raise Failed(f"{values.name}: {check.__name__}: {error}") from error
    assert custom, "no custom resource was rendered"
    command = ["node", str(chart.root / "tests/deploy/crds.mjs"), str(chart.cache / "node/node_modules")]
    done = subprocess.run(command, input="\n".join(custom), capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"custom resources: {done.stdout}{done.stderr}")
    return f"{objects} objects, {len(custom)} custom resources"


def refused(chart: Chart) -> str:
    """Values that must fail do, with a message that says why."""
    cases = sorted((chart.path / "ci/fail").glob("*.yaml"))
    assert len(cases) > 10, "where are the cases?"
    for case in cases:
        first = case.read_text().splitlines()[0]
        assert first.startswith("# expect: "), f"{case.name} does not say what it expects"
        for helm in HELMS:
            done = chart.helm(helm, "template", "rel", chart.path, "-f", case)
            if done.returncode == 0:
                raise Failed(f"{helm} accepts {case.name}")
            if first.removeprefix("# expect: ") not in done.stderr:
                raise Failed(f"{helm}, {case.name}: expected '{first[10:]}' in: {done.stderr.strip()}")
    return f"{len(cases)} cases"


def defaults(chart: Chart) -> str:
    """The defaults are those of the services: ports, version. Monitoring needs its API."""
    sources, r = Sources(chart.root), chart.render()
    for name, (crate, _) in SERVICES.items():
        ports = tuple(p["containerPort"] for p in r.containers()[name]["ports"])
        if ports != sources.ports(crate):
            raise Failed(f"{name}: ports {ports}, the service has {sources.ports(crate)}")
    meta = yaml.safe_load((chart.path / "Chart.yaml").read_text())
    if meta["appVersion"] != sources.version():
        raise Failed(f"appVersion {meta['appVersion']}, the workspace has {sources.version()}")
    on = ["--set", "metrics.podMonitor.enabled=true,metrics.prometheusRule.enabled=true"]
    if chart.render(*on).custom():
        raise Failed("custom resources without their API")
    if not r.of("PodDisruptionBudget") or not r.of("NetworkPolicy"):
        raise Failed("no budget or policy by default")
    r.one("Secret", "-cluster-secret")
    generated_keys(r)
    return "ports, version"


def generated_keys(r: Rendered) -> None:
    """The generated file of API keys has the generated key of the administrator, in the form of one."""
    data = {name: base64.b64decode(value) for name, value in r.one("Secret", "rel-atoll-auth")["data"].items()}
    text = data["admin-key"].decode()
    secret = text.removeprefix("atoll_admin_")
    if len(secret) != 43 or len(base64.urlsafe_b64decode(secret + "=")) != 32:
        raise Failed(f"{text} is not an API key")
    (key,) = json.loads(data["keys.json"])["keys"]
    if key["versions"][0]["sha256"] != hashlib.sha256(text.encode()).hexdigest():
        raise Failed("the file of keys does not have the administrator's")
    peers = base64.b64decode(r.one("Secret", "rel-atoll-peer-auth")["data"]["peer-keys"])
    if len(peers) < 32:
        raise Failed("the key of the peers is too short")


def restarts(chart: Chart) -> str:
    """Scaling and a new chart restart nobody; a changed setting restarts everybody."""
    template = lambda *args, path=None: chart.render(*args, path=path).pod()
    before = template()
    if template("--set", "replicaCount=5") != before:
        raise Failed("scaling changes the pods")
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(shutil.copytree(chart.path, pathlib.Path(folder) / "atoll"))
        text = (copy / "Chart.yaml").read_text()
        (copy / "Chart.yaml").write_text(text.replace("\nversion: ", "\nversion: 9"))
        if template(path=copy) != before:
            raise Failed("a new version of the chart changes the pods")
    for change in ["storage.config.store.cache_bytes=134217728", "router.logLevel=debug", "membership.autoJoin=false"]:
        if template("--set", change)["metadata"]["annotations"] == before["metadata"]["annotations"]:
            raise Failed(f"{change} does not restart the pods")
    return "3 changes restart, 2 do not"


def releases(chart: Chart) -> str:
    """Of two releases in one namespace, neither selects a pod of the other, and no name is taken twice."""
    one, two = chart.render(release="one"), chart.render(release="two")
    for a, b in [(one, two), (two, one)]:
        foreign = [b.pod()["metadata"]["labels"], *(pod["metadata"]["labels"] for _, pod in b.helper_pods())]
        found = list(selectors(a).values()) + spread_selectors(a)
        if any(matches(selector, labels) for selector in found for labels in foreign):
            raise Failed("a release selects pods of another")
    names = [{(o["kind"], o["metadata"]["name"]) for o in r.objects} for r in (one, two)]
    if names[0] & names[1]:
        raise Failed(f"names taken twice: {names[0] & names[1]}")
    long = chart.render(release="r" * 53).objects
    if any(len(o["metadata"]["name"]) > 63 for o in long):
        raise Failed("a long release name makes a name of more than 63 characters")
    return "2 releases"


def lookups(chart: Chart) -> str:
    """Against a live cluster: the secret stays, and only a scale-down renders the Job, for the right pods."""
    owned = {"namespace": "shop", "labels": {"app.kubernetes.io/managed-by": "Helm"},
             "annotations": {"meta.helm.sh/release-name": "atoll", "meta.helm.sh/release-namespace": "shop"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "atoll-cluster-secret", **owned},
              "data": {"cluster-secret": base64.b64encode(b"kept").decode()}}
    live = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "atoll", **owned},
            "spec": {"replicas": 5}}
    auth = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "atoll-auth", **owned},
            "data": {name: base64.b64encode(b"kept").decode() for name in ("admin-key", "keys.json")}}
    peers = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "atoll-peer-auth", **owned},
             "data": {"peer-keys": base64.b64encode(b"kept").decode()}}
    secrets = {s["metadata"]["name"]: s for s in (secret, auth, peers)}
    objects = {**{f"/api/v1/namespaces/shop/secrets/{name}": s for name, s in secrets.items()},
               "/apis/apps/v1/namespaces/shop/statefulsets/atoll": live}
    cases = [(3, ["atoll-3", "atoll-4"]), (4, ["atoll-4"]), (5, None), (6, None)]
    with ApiServer(objects) as api, tempfile.NamedTemporaryFile("w", suffix=".yaml") as kubeconfig:
        cluster = {"name": "c", "cluster": {"server": api.url}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        json.dump({"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context],
                   "users": [{"name": "u", "user": {}}], "current-context": "x"}, kubeconfig)
        kubeconfig.flush()
        server = ["--dry-run=server", "--disable-openapi-validation", "--kubeconfig", kubeconfig.name]
        for helm in HELMS:
            for replicas, removed in cases:
                r = chart.render(*server, "--set", f"replicaCount={replicas}", helm=helm, release="atoll")
                jobs = [j for j in r.of("Job") if j["metadata"]["annotations"]["helm.sh/hook"] == "pre-upgrade"]
                named = [j["spec"]["template"]["spec"]["containers"][0]["args"][4:] for j in jobs]
                if named != ([removed] if removed else []):
                    raise Failed(f"{helm}, 5 to {replicas}: the Job removes {named}")
                if {s["metadata"]["name"]: s["data"] for s in r.of("Secret")} != {n: s["data"] for n, s in secrets.items()}:
                    raise Failed(f"{helm}: a secret of the cluster is replaced")
    drawn = [chart.render().of("Secret") for _ in range(2)]
    for one, two in zip(*drawn, strict=True):
        if set(one["data"].values()) & set(two["data"].values()):
            raise Failed("a generated secret is always the same")
    return f"{len(cases) * len(HELMS)} renderings"


def notes(chart: Chart) -> str:
    """What a user reads after the installation is about this release, and warns where it must."""
    warned = set()
    for values in chart.values():
        done = chart.helm("helm4", "install", "rel", chart.path, "-n", "shop", "--dry-run=client", "-f", values)
        text = done.stdout.split("\nNOTES:\n")[-1]
        r = chart.render("-f", values)
        service = r.one("Service", r.workload()["metadata"]["name"])
        encrypted = "ATOLL_CA_FILE" in str(r.helper_pods())
        url = f"http{'s' * encrypted}://{service['metadata']['name']}.shop.svc."
        if done.returncode or url not in text or f":{service['spec']['ports'][0]['port']}\n" not in text:
            raise Failed(f"{values.name}: {done.stderr or text}")
        if "volumeClaimTemplates" not in r.workload()["spec"]:
            warned.add("persistence is off" in text)
        warned.add(("tls is off" in text) != encrypted)
        off = lambda name: (yaml.safe_load(values.read_text()) or {}).get(name, {}).get("enabled") is False
        warned.add(("auth is off" in text) == off("auth"))
        # With certificates hosts are known even so.
        warned.add(("peerAuth is off" in text) == (off("peerAuth") and not encrypted))
    if warned != {True}:
        raise Failed("a warning is missing")
    return f"{len(chart.values())} texts"


def schema(chart: Chart) -> str:
    """Every value has a place in the schema, and the table in the README is the one that the comments give."""
    document = json.loads((chart.path / "values.schema.json").read_text())

    def place(values: dict, node: dict, path: str) -> int:
        count = 0
        for key, value in values.items():
            while "$ref" in node:
                node = document["definitions"][node["$ref"].rsplit("/", 1)[1]]
            inner = node.get("properties", {}).get(key)
            if inner is None and "properties" in node:
                raise Failed(f"{path}{key} is not in the schema")
            count += 1 + (place(value, inner, f"{path}{key}.") if isinstance(value, dict) and inner else 0)
        return count

    count = place(yaml.safe_load((chart.path / "values.yaml").read_text()), document, "")
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(shutil.copy(chart.path / "README.md", folder))
        tool = chart.cache / "node/node_modules/.bin/readme-generator"
        done = subprocess.run([tool, "-v", chart.path / "values.yaml", "-r", copy], capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"readme-generator: {done.stdout}{done.stderr}")
        if copy.read_text() != (chart.path / "README.md").read_text():
            raise Failed("helm/atoll/README.md is out of date: tests/deploy/run readme")
    return f"{count} values"


def queries(chart: Chart) -> str:
    """Rules are valid and do what they say; every metric that rules and dashboards name is registered somewhere."""
    here, rules = chart.root / "tests/deploy", chart.path / "rules/atoll.rules.yaml"
    for command in [["promtool", "check", "rules", rules], ["promtool", "test", "rules", here / "rules_test.yaml"]]:
        done = subprocess.run(command, capture_output=True, text=True, cwd=here)
        if done.returncode:
            raise Failed(f"{command[1]} {command[2]}: {done.stdout}{done.stderr}")
    rules_by_name = rules_of(chart)
    alerts = {name: rule["expr"] for name, rule in rules_by_name.items()}
    tested = {a["alertname"] for t in yaml.safe_load((here / "rules_test.yaml").read_text())["tests"] for a in t["alert_rule_test"]}
    fired = {a["alertname"] for t in yaml.safe_load((here / "rules_test.yaml").read_text())["tests"] for a in t["alert_rule_test"] if a["exp_alerts"]}
    if fired != tested:
        raise Failed(f"alerts that no test lets fire: {tested - fired}")
    in_step = instep.check(chart.root, rules_by_name, tested)
    expressions = [(f"alert {name}", expression) for name, expression in alerts.items()]
    for path in sorted((chart.path / "dashboards").glob("*.json")):
        panels = json.loads(path.read_text())["panels"]
        found = [(f"{path.name}, {p['title']}", t["expr"]) for p in panels for t in p.get("targets", [])]
        assert found, f"{path.name} asks nothing"
        ids = [p["id"] for p in panels]
        assert len(ids) == len(set(ids)), f"{path.name}: panels share an id"
        expressions += found
    known = reference.listed(chart.root) | FOREIGN_METRICS
    for where, expression in expressions:
        names = metrics_of(expression)
        if not names or names - known:
            raise Failed(f"{where}: no such metric: {names - known or expression}")
    return f"{len(alerts)} alerts, {len(expressions)} queries, {in_step}"


def panels(chart: Chart) -> str:
    """The dashboards are those that are described, valid for Grafana, evenly laid out, and say what each panel shows."""
    folder = chart.path / "dashboards"
    wanted, found = dashboards.files(chart.root), {path.name: path.read_text() for path in folder.glob("*.json")}
    if wanted != found:
        raise Failed("helm/atoll/dashboards is out of date: tests/deploy/run dashboards")
    command = ["node", chart.root / "tests/deploy/grafana.mjs", chart.cache / "node/node_modules", *sorted(folder.glob("*.json"))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"Grafana's types: {(done.stdout + done.stderr)[:2000]}")
    alerts, count, uids = set(rules_of(chart)), 0, set()
    for name, text in found.items():
        document = json.loads(text)
        uids.add(document["uid"])
        lines = {}
        for panel in document["panels"]:
            place = panel["gridPos"]
            lines.setdefault(place["y"], []).append((place["x"], place["w"], place["h"]))
            if panel["type"] == "row":
                continue
            count += 1
            where = f"{name}, {panel['title']}"
            assert panel["description"] and panel["fieldConfig"]["defaults"]["unit"], f"{where}: no description or unit"
            linked = {link["title"].removeprefix("Runbook: ") for link in panel["links"]}
            assert linked <= alerts, f"{where}: links to no alert: {linked - alerts}"
        bottom = 0
        for y, places in sorted(lines.items()):
            assert y == bottom, f"{name}: a gap or an overlap at line {y}"
            assert sum(w for _, w, _ in places) == 24 and len({(w, h) for _, w, h in places}) == 1, f"{name}: line {y} is uneven"
            bottom = y + places[0][2]
    assert len(uids) == len(found), "dashboards share a uid"
    return f"{len(found)} dashboards, {count} panels"


def rules_of(chart: Chart) -> dict[str, dict]:
    """Every alert by its name."""
    document = yaml.safe_load((chart.path / "rules/atoll.rules.yaml").read_text())
    return {rule["alert"]: rule for group in document["groups"] for rule in group["rules"]}


def dockerfile(chart: Chart) -> str:
    """hadolint."""
    done = subprocess.run([chart.cache / "venv/bin/hadolint", chart.root / "docker/Dockerfile"], capture_output=True, text=True)
    if done.returncode:
        raise Failed(done.stdout + done.stderr)
    return "hadolint"


STEPS = [lint, matrix, refused, defaults, restarts, releases, lookups, notes, schema, queries, panels, dockerfile]


def main() -> int:
    chart = Chart(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        def timed(step):
            begun = time.monotonic()
            try:
                return True, step(chart), time.monotonic() - begun
            except (Failed, AssertionError) as finding:
                return False, str(finding), time.monotonic() - begun

        for step, (good, text, seconds) in zip(STEPS, pool.map(timed, STEPS)):
            bad += not good
            print(f"{'ok  ' if good else 'FAIL'} {step.__name__:<10} {seconds:5.1f} s  {text}", flush=True)
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())

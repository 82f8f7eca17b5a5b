"""What must hold of every rendering, whatever the values."""

import pathlib
import re

import yaml

from panels import runbook_base
from rendered import Rendered, all_containers, matches, selectors
from sources import SERVICES, Sources

ORDER = (["membership-svc", "storage-node"], ["request-router", "anti-entropy-worker"])


def processes(r: Rendered, sources: Sources) -> None:
    """Four containers, sidecars in the order in which they must start."""
    spec = r.pod()["spec"]
    init, main = spec["initContainers"], spec["containers"]
    assert ([c["name"] for c in init], [c["name"] for c in main]) == ORDER
    assert all(c["restartPolicy"] == "Always" for c in init), "sidecars restart"
    assert not any("restartPolicy" in c for c in main)
    images = {c["image"] for _, pod in [("", r.pod()), *r.helper_pods()] for c in all_containers(pod["spec"])}
    assert len(images) == 1, f"one image, not {images}"
    for c in init + main:
        assert c["command"] == [f"/usr/local/bin/{c['name']}"]


def probes(r: Rendered, sources: Sources) -> None:
    """Each probe asks a real route of its own container's metrics listener."""
    names = [port["name"] for c in r.containers().values() for port in c["ports"]]
    assert len(names) == len(set(names)) and all(len(name) <= 15 for name in names), names
    for c in r.containers().values():
        (_, metrics) = c["ports"]
        assert metrics["name"].endswith("-metrics")
        for probe, path in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]:
            get = c[probe]["httpGet"]
            assert get == {"path": path, "port": metrics["name"]}, (c["name"], probe, get)
            assert path in sources.health_routes(), f"{path} is no route"
            assert c[probe]["timeoutSeconds"] >= 1 and c[probe]["periodSeconds"] >= 1
        startup = c["startupProbe"]["periodSeconds"] * c["startupProbe"]["failureThreshold"]
        assert startup >= 30, f"{c['name']} is killed after {startup} s"


def settings_files(r: Rendered, sources: Sources) -> None:
    """The generated files listen where the container says, and name settings that exist."""
    if not any(o["metadata"]["name"].endswith("-config") for o in r.of("ConfigMap")):
        return
    files = r.settings()
    for name, (crate, file) in SERVICES.items():
        container, settings = r.containers()[name], files[file]
        api, metrics = (p["containerPort"] for p in container["ports"])
        assert int(settings["listen"].rsplit(":", 1)[1]) == api, name
        assert int(settings["metrics_listen"].rsplit(":", 1)[1]) == metrics, name
        mount = next(m for m in container["volumeMounts"] if m["name"] == "data")
        assert settings["data_dir"] == mount["mountPath"], name
        known = sources.settings(crate)
        for key in keys(settings):
            assert key in known, f"{file}: no setting {key} in {crate}"
        if "membership" in settings:
            agent = r.containers()["membership-svc"]["ports"][0]["containerPort"]
            assert settings["membership"] == f"127.0.0.1:{agent}", name
    for name, (_, file) in SERVICES.items():
        mounts = {m["name"]: m["mountPath"] for m in r.containers()[name]["volumeMounts"]}
        guards = [("peer_auth", "hmac", "peer-auth")]
        # Storage nodes have the table where routers have keys and hosts prove themselves.
        if name == "request-router" or "auth" in files[file]:
            guards.append(("auth", "keys", "auth"))
        assert name == "request-router" or ("auth" in files[file]) == ("auth" in mounts), file
        if name == "storage-node":
            proven = files[file]["peer_auth"]["mode"] == "hmac" or "ca_file" in files[file].get("tls", {})
            assert ("auth" in files[file]) == (files["router.toml"]["auth"]["mode"] == "keys" and proven), file
        for table, mode, volume in guards:
            guard = files[file][table]
            assert guard["mode"] == (mode if volume in mounts else "none"), f"{file}: {guard}"
            if volume in mounts:
                assert guard["keys_file"].startswith(mounts[volume]), f"{file}: {guard}"
    storage = r.containers()["storage-node"]
    secret = next(m for m in storage["volumeMounts"] if m["name"] == "cluster-secret")["mountPath"]
    assert files["storage.toml"]["cluster_secret_file"].startswith(secret + "/")
    assert files["anti-entropy.toml"]["storage"] == f"127.0.0.1:{storage['ports'][0]['containerPort']}"


def keys(table: dict) -> list[str]:
    """All keys of a table, at any depth."""
    return [k for key, value in table.items() for k in [key, *(keys(value) if isinstance(value, dict) else [])]]


def environment(r: Rendered, sources: Sources) -> None:
    """Our variables are settings of the process that gets them; others would stop it with 78."""
    plain = {"ATOLL_LOG", "ATOLL_CONFIG"}
    for name, (crate, _) in SERVICES.items():
        known = sources.settings(crate)
        for variable in r.containers()[name].get("env", []):
            if variable["name"].startswith("ATOLL_") and variable["name"] not in plain:
                for part in variable["name"].removeprefix("ATOLL_").lower().split("__"):
                    assert part in known, f"{name}: {variable['name']} is no setting of {crate}"
    env = {e["name"]: e for e in r.containers()["membership-svc"]["env"]}
    peers = r.one("Service", "-peers")
    for process, container in [
        ("ROUTER", "request-router"),
        ("STORAGE", "storage-node"),
        ("MEMBERSHIP", "membership-svc"),
        ("WORKER", "anti-entropy-worker"),
    ]:
        host, port = env[f"ATOLL_ADVERTISE__{process}"]["value"].rsplit(":", 1)
        assert host.startswith(f"$(ATOLL_NAME).{peers['metadata']['name']}.{peers['metadata']['namespace']}.svc."), host
        assert int(port) == r.containers()[container]["ports"][0]["containerPort"]
        assert int(port) in [p["port"] for p in peers["spec"]["ports"]]
    names = list(env)
    assert names.index("ATOLL_NAME") < names.index("ATOLL_ADVERTISE__ROUTER"), "$(ATOLL_NAME) is expanded in order"


def seeds(r: Rendered, sources: Sources) -> None:
    """Seeds are pods by name, at the agent's port; founders are pods that exist."""
    if not any(o["metadata"]["name"].endswith("-config") for o in r.of("ConfigMap")):
        return
    agent = r.settings()["membership.toml"]
    name, peers = r.workload()["metadata"]["name"], r.one("Service", "-peers")["metadata"]
    port = r.containers()["membership-svc"]["ports"][0]["containerPort"]
    own = [s for s in agent["seeds"] if s.startswith(f"{name}-")]
    assert own, "no pod is a seed"
    for seed in own:
        assert re.fullmatch(rf"{name}-\d+\.{peers['name']}\.{peers['namespace']}\.svc\..+:{port}", seed), seed
    founders = agent.get("join", {}).get("founders", [])
    assert founders in ([], [f"{name}-{i}" for i in range(agent["founding"]["spacing"])])
    assert len(founders) <= r.workload()["spec"]["replicas"]


def security(r: Rendered, sources: Sources) -> None:
    """Pod Security `restricted`, and more, for every pod."""
    for name, pod in [("ring", r.pod()), *r.helper_pods()]:
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True and context["runAsUser"] == 65532 == context["fsGroup"], name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for volume in spec.get("volumes", []):
            assert "hostPath" not in volume, name
        for c in all_containers(spec):
            own = c["securityContext"]
            assert own["allowPrivilegeEscalation"] is False and own["readOnlyRootFilesystem"] is True, c["name"]
            assert own["capabilities"] == {"drop": ["ALL"]} and "privileged" not in own, c["name"]
            assert c["resources"]["requests"]["cpu"] and c["resources"]["limits"]["memory"], c["name"]
    for account in r.of("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    assert not {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"} & {o["kind"] for o in r.objects}


def selection(r: Rendered, sources: Sources) -> None:
    """Whatever selects pods selects those of the ring, and no other pod of the release."""
    ring = r.pod()["metadata"]["labels"]
    for where, selector in selectors(r).items():
        assert matches(selector, ring), f"{where} does not select the ring"
        for name, pod in r.helper_pods():
            labels = pod["metadata"]["labels"]
            assert not matches(selector, labels), f"{where} selects {name}"
    for name, pod in r.helper_pods():
        assert pod["metadata"]["labels"]["app.kubernetes.io/component"] in ("decommission", "test"), name


def labels(r: Rendered, sources: Sources) -> None:
    """Common labels on every object of the chart, all text; every object names its namespace."""
    for o in r.objects:
        name = f"{o['kind']}/{o['metadata']['name']}"
        if "-extra" in name:
            continue
        assert o["metadata"]["namespace"] == "shop", name
        have = o["metadata"]["labels"]
        wanted = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/version", "helm.sh/chart"}
        assert wanted <= set(have) and have["app.kubernetes.io/managed-by"] == "Helm", name
        for group in ("labels", "annotations"):
            for key, value in o["metadata"].get(group, {}).items():
                assert isinstance(value, str), f"{name}: {key} is {value!r}"
        assert len(o["metadata"]["name"]) <= 63, name
    for key, value in r.pod()["metadata"]["labels"].items():
        assert isinstance(value, str), f"{key} is {value!r}"
    assert "helm.sh/chart" not in r.pod()["metadata"]["labels"], "a new chart would restart every pod"


def volumes(r: Rendered, sources: Sources) -> None:
    """Mounts have volumes, each process its own part of the data, and referenced names exist."""
    spec = r.pod()["spec"]
    claims = [c["metadata"]["name"] for c in r.workload()["spec"].get("volumeClaimTemplates", [])]
    known = [v["name"] for v in spec["volumes"]] + claims
    assert len(known) == len(set(known)), known
    parts = []
    for c in r.containers().values():
        for mount in c["volumeMounts"]:
            assert mount["name"] in known, (c["name"], mount)
            if mount["name"] == "data":
                parts.append(mount["subPath"])
    assert sorted(parts) == ["membership", "router", "storage", "worker"], parts
    only = [c["name"] for c in r.containers().values() for m in c["volumeMounts"] if m["name"] == "cluster-secret"]
    assert only == ["storage-node"], f"the cluster's secret is mounted by {only}"
    everybody = list(r.containers())
    # Keys protect a storage node only where hosts prove themselves, by signatures or by certificates.
    keyed = ["storage-node", "request-router"] if {"peer-auth", "tls"} & set(known) else ["request-router"]
    for name, wanted in [("auth", keyed), ("peer-auth", everybody), ("tls", everybody)]:
        having = [c["name"] for c in r.containers().values() for m in c["volumeMounts"] if m["name"] == name]
        assert sorted(having) == (sorted(wanted) if name in known else []), f"{name} is mounted by {having}"
    own = {(o["kind"], o["metadata"]["name"]) for o in r.objects}
    for volume in spec["volumes"]:
        name = volume.get("configMap", {}).get("name")
        if name and name.endswith("-config"):
            assert ("ConfigMap", name) in own, name


def scheme(r: Rendered) -> str:
    """How URLs of routers begin."""
    return "https" if any(v["name"] == "tls" for v in r.pod()["spec"]["volumes"]) else "http"


def encryption(r: Rendered, sources: Sources) -> None:
    """Where TLS is on, every process has it and finds its files, and whoever asks as an administrator has the CA alone."""
    on = scheme(r) == "https"
    for o in r.of("Service"):
        assert {p["appProtocol"] for p in o["spec"]["ports"]} == {scheme(r)}, o["metadata"]["name"]
    for name, pod in r.helper_pods():
        (container,) = pod["spec"]["containers"]
        (endpoint,) = [a.removeprefix("--endpoint=") for a in container["args"] if a.startswith("--endpoint=")]
        assert all(e.startswith(f"{scheme(r)}://") for e in endpoint.split(",")), (name, endpoint)
        given = {e["name"]: e.get("value") for e in container.get("env", [])}
        assert ("ATOLL_CA_FILE" in given) == on, (name, given)
        if on:
            (mount,), (volume,) = container["volumeMounts"], pod["spec"]["volumes"]
            assert mount["name"] == volume["name"] == "tls" and given["ATOLL_CA_FILE"] == f"{mount['mountPath']}/ca.crt", name
            assert [i["key"] for i in volume["secret"]["items"]] == ["ca.crt"], f"{name} has more than the CA"
    if not any(o["metadata"]["name"].endswith("-config") for o in r.of("ConfigMap")):
        return
    (volume,) = [v for v in r.pod()["spec"]["volumes"] if v["name"] == "tls"] or [None]
    for file, settings in r.settings().items():
        assert ("tls" in settings) == on, f"{file}: tls"
        if on:
            files = {pathlib.PurePosixPath(settings["tls"][f"{kind}_file"]) for kind in ("cert", "key", "ca")}
            assert {f.name for f in files} == {i["path"] for i in volume["secret"]["items"]}, file
            assert {str(f.parent) for f in files} == {m["mountPath"] for c in r.containers().values() for m in c["volumeMounts"] if m["name"] == "tls"}, file
            assert settings["tls"]["cluster_name"].startswith(f"{r.workload()['spec']['serviceName']}."), file


def services(r: Rendered, sources: Sources) -> None:
    """Target ports exist; peers find each other before they are ready."""
    ports = {p["name"] for c in r.containers().values() for p in c["ports"]}
    for o in r.of("Service"):
        for port in o["spec"]["ports"]:
            assert port["targetPort"] in ports, (o["metadata"]["name"], port)
    peers = r.one("Service", "-peers")
    assert peers["spec"]["clusterIP"] == "None" and peers["spec"]["publishNotReadyAddresses"] is True
    assert r.workload()["spec"]["serviceName"] == peers["metadata"]["name"]
    for monitor in r.of("PodMonitor"):
        scraped = [e["port"] for e in monitor["spec"]["podMetricsEndpoints"]]
        assert sorted(scraped) == sorted(p for p in ports if p.endswith("-metrics")), scraped


def monitoring(r: Rendered, sources: Sources) -> None:
    """The models of the operator let unknown keys pass: what is rendered is listed here."""
    for monitor in r.of("PodMonitor"):
        assert set(monitor["spec"]) == {"selector", "podMetricsEndpoints"}, set(monitor["spec"])
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            assert endpoint["path"] in sources.health_routes(), endpoint["path"]
            wanted = {"port", "path", "interval", "scrapeTimeout"}
            assert wanted <= set(endpoint) <= wanted | {"relabelings", "metricRelabelings"}, set(endpoint)
    for rule in r.of("PrometheusRule"):
        text = (sources.root / "helm/atoll/rules/atoll.rules.yaml").read_text()
        pages = {a["annotations"]["runbook_url"].removesuffix(f"/{a['alert']}.md") for g in rule["spec"]["groups"] for a in g["rules"]}
        (base,) = pages
        own = runbook_base(sources.root)
        assert rule["spec"] == yaml.safe_load(text.replace(own, base)), "the rules are not those of the file"
        boards = [o["data"] for o in r.of("ConfigMap") if "-dashboard-" in o["metadata"]["name"]]
        assert all(base in text and (base == own or own not in text) for d in boards for text in d.values()), "links of panels"


def network(r: Rendered, sources: Sources) -> None:
    """Only the ring reaches the ports between hosts; metrics and clients reach theirs."""
    policies = r.of("NetworkPolicy")
    if not policies:
        return
    (policy,) = policies
    port = {p["name"]: p["containerPort"] for c in r.containers().values() for p in c["ports"]}
    ring, clients, *direct, metrics = policy["spec"]["ingress"]
    numbers = lambda rule: sorted(p["port"] for p in rule["ports"])
    assert numbers(ring) == sorted(port[n] for n in ("http", "storage", "gossip", "sync"))
    assert [matches(f["podSelector"], r.pod()["metadata"]["labels"]) for f in ring["from"]] == [True]
    assert numbers(clients) == [port["http"]]
    # Nobody else reaches a storage node, unless the values name them.
    assert all(numbers(rule) == [port["storage"]] and rule["from"] for rule in direct), direct
    assert numbers(metrics) == sorted(n for name, n in port.items() if name.endswith("-metrics"))
    if "from" in clients:
        for name, pod in r.helper_pods():
            allowed = [f for f in clients["from"] if "podSelector" in f]
            assert any(matches(f["podSelector"], pod["metadata"]["labels"]) for f in allowed), f"{name} is shut out"


def stopping(r: Rendered, sources: Sources) -> None:
    """The grace covers the four stops, one after another."""
    spec = r.pod()["spec"]
    if not any(o["metadata"]["name"].endswith("-config") for o in r.of("ConfigMap")):
        return
    drain = {file: s["runtime"]["drain_timeout_ms"] / 1000 for file, s in r.settings().items()}
    sleep = r.containers()["request-router"].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    first = max(sleep + drain["router.toml"], drain["anti-entropy.toml"])
    assert spec["terminationGracePeriodSeconds"] > first + 2 * drain["storage.toml"] + drain["membership.toml"]


def hooks(r: Rendered, sources: Sources) -> None:
    """Hooks never retry blindly, and a rollback finds out by itself what has to go."""
    for job in r.of("Job"):
        spec = job["spec"]
        assert spec["template"]["spec"]["restartPolicy"] == "Never" and spec["backoffLimit"] == 2
        args = spec["template"]["spec"]["containers"][0]["args"]
        assert args[:2] == ["decommission", "--wait"], args
        name, replicas = r.workload()["metadata"]["name"], r.workload()["spec"]["replicas"]
        endpoints = next(a for a in args if a.startswith("--endpoint=")).removeprefix("--endpoint=").split(",")
        assert [re.match(rf"{scheme(r)}://{name}-(\d+)\.", e)[1] for e in endpoints] == [str(i) for i in range(min(3, replicas))]
        if job["metadata"]["annotations"]["helm.sh/hook"] == "pre-rollback":
            assert args[-2:] == [f"--prefix={name}-", f"--ordinals-from={replicas}"], args


ALL = [
    processes, probes, settings_files, environment, seeds, security, selection, labels, volumes, services, monitoring,
    network, stopping, hooks, encryption,
]

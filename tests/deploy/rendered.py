"""Rendered objects and the questions that tests ask of them."""

import json
import tomllib

import yaml

GENERATED = ("cluster-secret", "peer-keys", "admin-key", "keys.json")


class Rendered:
    """The objects of one rendering."""

    def __init__(self, text: str):
        self.text = text
        self.objects = [o for o in yaml.safe_load_all(text) if o]

    def of(self, kind: str) -> list[dict]:
        return [o for o in self.objects if o["kind"] == kind]

    def one(self, kind: str, end: str = "") -> dict:
        found = [o for o in self.of(kind) if o["metadata"]["name"].endswith(end)]
        assert len(found) == 1, f"{len(found)} of {kind} *{end}"
        return found[0]

    def workload(self) -> dict:
        return self.one("StatefulSet")

    def pod(self) -> dict:
        """The pod template of the ring."""
        return self.workload()["spec"]["template"]

    def containers(self) -> dict[str, dict]:
        return {c["name"]: c for c in all_containers(self.pod()["spec"])}

    def helper_pods(self) -> list[tuple[str, dict]]:
        """Pods outside the ring: hooks and tests, with the names of their objects."""
        jobs = [(o["metadata"]["name"], o["spec"]["template"]) for o in self.of("Job")]
        return jobs + [(o["metadata"]["name"], o) for o in self.of("Pod")]

    def settings(self) -> dict[str, dict]:
        """The generated settings files, parsed."""
        return {name: tomllib.loads(text) for name, text in self.one("ConfigMap", "-config")["data"].items()}

    def stable(self) -> str:
        """The text without what is drawn anew at each rendering."""
        lines = (line for line in self.text.splitlines() if not line.startswith(tuple(f"  {name}: " for name in GENERATED)))
        return "\n".join(lines)

    def custom(self) -> list[str]:
        """Custom resources, as JSON lines."""
        return [json.dumps(o) for o in self.objects if o["apiVersion"].startswith("monitoring.coreos.com/")]


def all_containers(spec: dict) -> list[dict]:
    return spec.get("initContainers", []) + spec["containers"]


def matches(selector: dict, labels: dict) -> bool:
    """Whether `matchLabels` (or a plain selector) matches; expressions are not used by this chart."""
    assert "matchExpressions" not in selector, "teach this function about expressions"
    wanted = selector.get("matchLabels", selector)
    return all(labels.get(key) == value for key, value in wanted.items())


def selectors(rendered: Rendered) -> dict[str, dict]:
    """Everything that selects pods of the ring, by where it stands."""
    found = {f"Service/{o['metadata']['name']}": o["spec"]["selector"] for o in rendered.of("Service")}
    for o in rendered.of("PodDisruptionBudget") + rendered.of("StatefulSet") + rendered.of("PodMonitor"):
        found[f"{o['kind']}/{o['metadata']['name']}"] = o["spec"]["selector"]
    for o in rendered.of("NetworkPolicy"):
        found[f"NetworkPolicy/{o['metadata']['name']}"] = o["spec"]["podSelector"]
    anti = rendered.pod()["spec"].get("affinity", {}).get("podAntiAffinity", {})
    terms = anti.get("requiredDuringSchedulingIgnoredDuringExecution", [])
    terms += [t["podAffinityTerm"] for t in anti.get("preferredDuringSchedulingIgnoredDuringExecution", [])]
    found.update({f"anti-affinity {i}": term["labelSelector"] for i, term in enumerate(terms)})
    return found


def spread_selectors(rendered: Rendered) -> list[dict]:
    return [c["labelSelector"] for c in rendered.pod()["spec"].get("topologySpreadConstraints", [])]

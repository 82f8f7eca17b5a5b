"""What the Rust sources say: ports, settings, health routes, names of metrics. The chart is held to it."""

import pathlib
import re
import tomllib

# Container: folder of the crate, its settings file.
SERVICES = {
    "membership-svc": ("membership-svc", "membership.toml"),
    "storage-node": ("storage-node", "storage.toml"),
    "request-router": ("request-router", "router.toml"),
    "anti-entropy-worker": ("anti-entropy-worker", "anti-entropy.toml"),
}

# Metrics of the process collector, and those that Prometheus itself makes.
FOREIGN_METRICS = {
    "up", "process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds", "process_max_fds", "process_start_time_seconds",
}

METRIC = re.compile(r"\b(?:atoll|process)_[a-z0-9_]+\b|\bup\b")
HISTOGRAM_ENDS = ("_bucket", "_count", "_sum")


class Sources:
    """The workspace at `root`."""

    def __init__(self, root: pathlib.Path):
        self.root = root

    def config(self, crate: str) -> str:
        """Everything in which a crate may declare settings."""
        folder = self.root / crate / "src"
        texts = [path.read_text() for path in sorted(folder.glob("config*.rs"))]
        texts += [path.read_text() for path in sorted((folder / "config").glob("**/*.rs"))]
        assert texts, f"{crate} declares no settings"
        return "\n".join(texts)

    def ports(self, crate: str) -> tuple[int, int]:
        """Default ports of the API and of metrics."""
        text = self.config(crate)

        def port(key: str) -> int:
            found = re.search(rf'\b{key}: "127\.0\.0\.1:(\d+)"', text)
            assert found, f"{crate}: no default for {key}"
            return int(found[1])

        return port("listen"), port("metrics_listen")

    def settings(self, crate: str) -> set[str]:
        """Names of fields that settings may have, at any depth."""
        shared = ["launch/listeners.rs", "telemetry/mod.rs", "auth/config.rs", "peer/auth/mod.rs", "tls/config.rs"]
        text = self.config(crate) + "".join((self.root / "service-kit/src" / path).read_text() for path in shared)
        return set(re.findall(r"^\s+pub (\w+):", text, re.M))

    def health_routes(self) -> set[str]:
        """Routes of the metrics listener."""
        text = (self.root / "service-kit/src/http/admin.rs").read_text()
        return set(re.findall(r'\.route\("([^"]+)"', text))

    def metrics(self) -> set[str]:
        """Names that some process registers."""
        names = set(FOREIGN_METRICS)
        for path in self.root.glob("*/src/**/*.rs"):
            text = path.read_text()
            names.update(re.findall(r'"(atoll_[a-z0-9_]+)"', text))
            # Names that are made of a prefix of the crate and a suffix.
            for prefix in re.findall(r'format!\("(atoll_[a-z0-9_]*)\{name\}"', text):
                names.update(prefix + suffix for suffix in re.findall(r'"([a-z][a-z0-9_]+)"', text))
        return names

    def literal_metrics(self) -> set[str]:
        """Names that the sources have in full, or as a prefix of their crate with a suffix."""
        names = set()
        for path in self.root.glob("*/src/**/*.rs"):
            text = path.read_text()
            code = text.split("#[cfg(test)]\nmod tests {")[0]
            names.update(n for n in re.findall(r'"(atoll_[a-z0-9_]+)"', code) if not n.endswith("_"))
        return names

    def version(self) -> str:
        """Version of the workspace."""
        manifest = tomllib.loads((self.root / "Cargo.toml").read_text())
        return manifest["workspace"]["package"]["version"]


def selectors_of(expression: str) -> set[str]:
    """The selectors of a query, with their matchers and without their ranges."""
    names = r"(?:atoll|process)_[a-z0-9_]+|\bup\b"
    return {m[0] for m in re.finditer(rf"(?:{names})(?:\{{[^}}]*\}})?", re.sub(r"\b(?:by|without)\s*\([^)]*\)", "", expression))}


def metrics_of(expression: str) -> set[str]:
    """Names of metrics in a query, histograms without the ends of their series."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    bare = re.sub(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"\{[^}]*\}", "", bare)
    names = set()
    for name in METRIC.findall(bare):
        for end in HISTOGRAM_ENDS:
            name = name.removesuffix(end)
        names.add(name)
    return names

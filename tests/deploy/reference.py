"""docs/metrics.md: every metric of the four processes, as their real /metrics show it."""

import pathlib
import re

SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})? ")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="(?:[^"\\]|\\.)*"')
ENDS = ("_bucket", "_sum", "_count")
HEAD = """# Metrics

What `/metrics` of each process has, in the text format of Prometheus: on port 7701 of request-router, 7711 of storage-node, 7721 of
membership-svc, 7731 of anti-entropy-worker. Which of them answers which question is in [monitoring](monitoring.md).

This page is written by `tests/deploy/run metrics` from what real processes show under load; `tests/deploy/run monitoring` holds it
to that. Labels that Prometheus adds when it scrapes (`namespace`, `pod`, `container`) are not listed.

| metric | type | labels | meaning | processes |
|---|---|---|---|---|
"""


class Metric:
    """One family, merged over processes."""

    def __init__(self, kind: str, meaning: str):
        self.kind, self.meaning = kind, meaning
        self.labels: set[str] = set()
        self.processes: set[str] = set()


def parse(text: str) -> dict[str, Metric]:
    """The families of one exposition."""
    meanings, families = {}, {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _, _, name, meaning = line.split(" ", 3)
            meanings[name] = meaning
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            families[name] = Metric(kind, meanings[name])
        elif line:
            sample = SAMPLE.match(line)
            assert sample, line
            name = sample["name"]
            base = next((name.removesuffix(end) for end in ENDS if name.removesuffix(end) in families), name)
            families[base].labels |= set(LABEL.findall(sample["labels"] or "")) - {"le"}
    return families


def merged(expositions: list[tuple[str, str]]) -> dict[str, Metric]:
    """All families of pairs of process and exposition. What differs between processes is a mistake."""
    every: dict[str, Metric] = {}
    for process, text in expositions:
        for name, found in parse(text).items():
            known = every.setdefault(name, found)
            assert (known.kind, known.meaning) == (found.kind, found.meaning), f"{name} is not the same in {process}"
            known.labels |= found.labels
            known.processes.add(process)
    return every


def page(metrics: dict[str, Metric], order: list[str]) -> str:
    """The file."""
    rows = []
    for name, m in sorted(metrics.items()):
        labels = ", ".join(f"`{label}`" for label in sorted(m.labels)) or "–"
        where = "all" if m.processes == set(order) else ", ".join(p for p in order if p in m.processes)
        rows.append(f"| `{name}` | {m.kind} | {labels} | {m.meaning} | {where} |\n")
    return HEAD + "".join(rows)


def listed(root: pathlib.Path) -> set[str]:
    """The metrics that the file has."""
    return set(re.findall(r"^\| `([a-z0-9_]+)` \|", (root / "docs/metrics.md").read_text(), re.M))

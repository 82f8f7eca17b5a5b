"""Holds rules, dashboards, pages and metrics in step, without a cluster: docs/metrics.md is the link, as
`tests/deploy/run monitoring` holds it to real processes."""

import pathlib
import re

import dashboards
import reference
from sources import FOREIGN_METRICS, Sources, metrics_of

HEADINGS = ["What it means", "What users notice", "What to look at", "What to do", "When it is over"]
NAMED = re.compile(r"\b(?:atoll|process)_[a-z0-9_]+\b")
BOARDS = r"\b(Overview|Replication|Hosts)"
PANEL = re.compile(rf"\*{BOARDS} / ([^*]+)\*")
# What look like metrics in texts, and are none.
NO_METRICS = {"atoll_dev"}


def base(name: str) -> str:
    """The metric of a series."""
    for end in reference.ENDS:
        name = name.removesuffix(end)
    return name


def named(text: str) -> set[str]:
    """Metrics that a text names."""
    return {base(name) for name in NAMED.findall(text)} - NO_METRICS


def check(root: pathlib.Path, alerts: dict[str, dict], tested: set[str]) -> str:
    """Raises AssertionError where something is out of step."""
    known = reference.listed(root) | FOREIGN_METRICS
    registered = Sources(root).literal_metrics()
    missing = registered - known
    assert not missing, f"docs/metrics.md lacks {missing}: tests/deploy/run metrics"
    pages = {path.stem: path.read_text() for path in (root / "docs/runbooks").glob("Atoll*.md")}
    assert set(pages) == set(alerts) == tested, f"alert, page and unit test: {(set(pages) ^ set(alerts)) | (tested ^ set(alerts))}"
    questions = (root / "docs/runbooks/questions.md").read_text()
    index = (root / "docs/runbooks/README.md").read_text()
    panels = titles()
    for name, rule in alerts.items():
        say = rule["annotations"]
        assert {"summary", "description", "runbook_url"} == set(say) and rule["labels"]["severity"] in ("warning", "critical"), name
        assert say["runbook_url"].endswith(f"/{name}.md"), f"{name}: {say['runbook_url']}"
        row = f"| [{name}]({name}.md) | {rule['labels']['severity']} | {say['summary']} |"
        assert row in index, f"docs/runbooks/README.md lacks: {row}"
        page = pages[name]
        assert page.startswith(f"# {name}\n") and re.findall(r"^## (.+)$", page, re.M) == HEADINGS, f"{name}: headings"
        bare = re.search(rf"(?<!\*){BOARDS} / \w+", page)
        assert not bare, f"{name}: panels are written *dashboard / panel*: {bare and bare[0]}"
    for name, page in (pages | {"questions": questions}).items():
        for board, panel in PANEL.findall(page):
            assert panel in panels[board], f"{name}: no panel '{panel}' on {board}"
    linked = set()
    for document in dashboards.files(root).values():
        linked |= set(re.findall(r"Runbook: (\w+)", document))
    assert linked == set(alerts), f"alerts that no panel links to, or links to no alert: {linked ^ set(alerts)}"
    texts = {f"runbook {name}": text for name, text in pages.items()}
    texts["docs/runbooks/questions.md"] = questions
    texts["docs/monitoring.md"] = (root / "docs/monitoring.md").read_text()
    texts |= {f"alert {name}": " ".join(map(str, [*metrics_of(r["expr"]), r["annotations"]["description"]])) for name, r in alerts.items()}
    for where, text in texts.items():
        unknown = named(text) - known
        assert not unknown, f"{where}: no such metric: {unknown}"
    links = re.findall(r"\]\(((?:\.\./)?[A-Za-z/]+\.md)", "".join(pages.values()) + questions)
    broken = {link for link in links if not (root / "docs/runbooks" / link).exists()}
    assert not broken, f"broken links in runbooks: {broken}"
    return f"{len(pages)} pages, {len(known)} metrics"


def titles() -> dict[str, set[str]]:
    """Titles of the panels of each dashboard."""
    return {title: {p.title for lines in rows.values() for line in lines for p in line} for title, _, rows in dashboards.ALL.values()}

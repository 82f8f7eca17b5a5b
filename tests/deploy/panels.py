"""How a dashboard of Atoll is put together: panels in even rows, the same variables and links everywhere.

Queries are written short: `@` stands for the matchers of the variables, `[R]` for the range of a rate."""

import json
import pathlib

import yaml

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
HEIGHTS = {"stat": 4, "timeseries": 8}
# What a panel of each unit may say about good and bad: the colours of a stat, from the lowest value on.
GREEN = (("green", None),)


class Panel:
    """One panel without its place. `queries` are pairs of legend and query."""

    def __init__(self, title: str, unit: str, about: str, *queries: tuple[str, str], kind: str = "timeseries",
                 alerts: tuple[str, ...] = (), steps: tuple = GREEN, mappings: dict[int, str] | None = None,
                 minimum: float | None = 0, maximum: float | None = None, stack: bool = False):
        self.title, self.unit, self.about, self.queries, self.kind = title, unit, about, queries, kind
        self.alerts, self.steps, self.mappings = alerts, steps, mappings or {}
        self.minimum, self.maximum, self.stack = minimum, maximum, stack

    def render(self, number: int, x: int, y: int, width: int, selector: str, runbooks: str) -> dict:
        """The panel as Grafana has it, at its place."""
        defaults = {"unit": self.unit, "thresholds": {"mode": "absolute", "steps": [{"color": c, "value": v} for c, v in self.steps]}}
        if self.minimum is not None:
            defaults["min"] = self.minimum
        if self.maximum is not None:
            defaults["max"] = self.maximum
        if self.mappings:
            options = {str(value): {"text": text, "index": i} for i, (value, text) in enumerate(self.mappings.items())}
            defaults["mappings"] = [{"type": "value", "options": options}]
        panel = {
            "id": number, "type": self.kind, "title": self.title, "description": self.about, "datasource": SOURCE,
            "gridPos": {"h": HEIGHTS[self.kind], "w": width, "x": x, "y": y},
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "targets": [
                {"refId": chr(ord("A") + i), "expr": full(query, selector), "legendFormat": legend, "datasource": SOURCE}
                for i, (legend, query) in enumerate(self.queries)
            ],
            "links": [link(f"Runbook: {a}", f"{runbooks}/{a}.md") for a in self.alerts],
        }
        if self.kind == "stat":
            panel["options"] = {
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value",
                "graphMode": "area", "justifyMode": "auto", "orientation": "auto", "textMode": "auto", "wideLayout": True,
            }
            return panel
        defaults["custom"] = {"lineWidth": 1, "fillOpacity": 20 if self.stack else 5, "showPoints": "never"}
        if self.stack:
            defaults["custom"]["stacking"] = {"mode": "normal", "group": "A"}
        panel["options"] = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
        return panel


def full(query: str, selector: str) -> str:
    """A query with its matchers and its range."""
    return query.replace("@", selector).replace("[R]", "[$__rate_interval]")


def link(title: str, url: str = "", **more) -> dict:
    """A link to another page, in a tab of its own unless `more` says otherwise."""
    return {"title": title, "type": "link", "icon": "doc", "tags": [], "asDropdown": False, "includeVars": False,
            "keepTime": False, "targetBlank": True, "tooltip": "", "url": url, **more}


def stat(title: str, unit: str, about: str, query: str, **more) -> Panel:
    """One number, with its recent past behind it."""
    return Panel(title, unit, about, ("", query), kind="stat", **more)


def quantiles(metric: str, by: str = "", matchers: str = "@", of: tuple[str, ...] = ("0.5", "0.99", "0.999")):
    """Quantiles of a histogram, with the labels of `by` in the legend."""
    labels = "".join(f"{{{{{label}}}}} " for label in by.split(", ") if label)
    group = f"{by}, le" if by else "le"
    names = {"0.5": "p50", "0.99": "p99", "0.999": "p99.9"}
    return tuple(
        (f"{labels}{names[q]}", f"histogram_quantile({q}, sum by ({group}) (rate({metric}_bucket{{{matchers}}}[R])))") for q in of
    )


def variables() -> list[dict]:
    """Data source, namespace and host, each with all of its values at first."""

    def labels(name: str, title: str, query: str) -> dict:
        return {
            "name": name, "label": title, "type": "query", "datasource": SOURCE,
            "query": {"query": query, "refId": name}, "refresh": 2, "sort": 1, "hide": 0,
            "includeAll": True, "allValue": ".*", "multi": True, "current": {"text": "All", "value": "$__all"},
        }

    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1, "hide": 0,
         "includeAll": False, "multi": False},
        labels("namespace", "Namespace", "label_values(atoll_build_info, namespace)"),
        labels("pod", "Host", 'label_values(atoll_build_info{namespace=~"$namespace"}, pod)'),
    ]


def dashboard(name: str, title: str, about: str, rows: dict[str, list[list[Panel]]], runbooks: str) -> dict:
    """The document of a dashboard: `rows` maps a heading to its lines of panels, each line of even width."""
    panels: list[dict] = []
    y = 0
    for heading, lines in rows.items():
        panels.append({"id": len(panels) + 1, "type": "row", "title": heading, "collapsed": False, "panels": [],
                       "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": y}})
        y += 1
        for line in lines:
            width, rest = divmod(WIDTH, len(line))
            assert rest == 0, f"{title}, {heading}: {len(line)} panels do not share a line evenly"
            for i, panel in enumerate(line):
                selector = 'namespace=~"$namespace",pod=~"$pod"'
                panels.append(panel.render(len(panels) + 1, i * width, y, width, selector, runbooks))
            y += HEIGHTS[line[0].kind]
    others = link("Atoll", type="dashboards", icon="dashboard", tags=["atoll"], includeVars=True, keepTime=True, targetBlank=False,
                  tooltip="The other dashboards")
    pages = link("Runbooks", f"{runbooks}/README.md", tooltip="What to do about each alert")
    return {
        "uid": f"atoll-{name}", "title": f"Atoll / {title}", "description": about, "tags": ["atoll"], "timezone": "browser",
        "schemaVersion": 39, "version": 1, "editable": True, "refresh": "30s", "graphTooltip": 1,
        "time": {"from": "now-1h", "to": "now"}, "links": [others, pages], "annotations": {"list": []},
        "templating": {"list": variables()}, "panels": panels,
    }


def runbook_base(root: pathlib.Path) -> str:
    """Where runbooks are, unless an installation says otherwise."""
    values = yaml.safe_load((root / "helm/atoll/values.yaml").read_text())
    return values["metrics"]["prometheusRule"]["runbookBaseUrl"]


def text(document: dict) -> str:
    """The file of a dashboard."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"

"""Just enough of a Kubernetes API for Helm's `lookup`: discovery, and objects that a test puts there."""

import http.server
import json
import threading

GROUPS = {
    "v1": [("secrets", "Secret"), ("configmaps", "ConfigMap"), ("services", "Service"), ("pods", "Pod"),
           ("serviceaccounts", "ServiceAccount")],
    "apps/v1": [("statefulsets", "StatefulSet")],
    "batch/v1": [("jobs", "Job")],
    "policy/v1": [("poddisruptionbudgets", "PodDisruptionBudget")],
    "networking.k8s.io/v1": [("networkpolicies", "NetworkPolicy")],
}


def discovery(path: str):
    """The answer to a discovery request, or None."""
    if path == "/version":
        return {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        named = [g for g in GROUPS if "/" in g]
        versions = [(g.split("/")[0], {"groupVersion": g, "version": "v1"}) for g in named]
        groups = [{"name": name, "versions": [v], "preferredVersion": v} for name, v in versions]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    for group, resources in GROUPS.items():
        if path == ("/api/v1" if group == "v1" else f"/apis/{group}"):
            listed = [{"name": n, "singularName": k.lower(), "namespaced": True, "kind": k,
                       "verbs": ["get", "list", "create", "patch"]} for n, k in resources]
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": listed}
    return None


class ApiServer:
    """Serves `objects` (path to object) on loopback while the context is open."""

    def __init__(self, objects: dict[str, dict]):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                body = discovery(path) or objects.get(path)
                status = 200 if body else 404
                body = body or {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "ApiServer":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

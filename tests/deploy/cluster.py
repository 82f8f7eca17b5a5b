"""A client of the composed cluster: single requests, and a load that remembers what was acknowledged."""

import http.client
import json
import pathlib
import random
import ssl
import threading
import time
import uuid

PORTS = {"h1": 7700, "h2": 7800, "h3": 7900}


class Answer:
    """Status, headers (names in lower case) and body."""

    def __init__(self, response: http.client.HTTPResponse):
        self.status, self.body = response.status, response.read()
        self.headers = {name.lower(): value for name, value in response.getheaders()}

    def json(self):
        return json.loads(self.body)

    @property
    def context(self) -> str:
        return self.headers["x-atoll-context"]


class Door:
    """How routers are spoken to: in clear and without a key, unless a CA and a key are given."""

    def __init__(self, ca: pathlib.Path | None = None, key: str | None = None):
        self.tls = ssl.create_default_context(cafile=ca) if ca else None
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    def connect(self, port: int, timeout: float) -> http.client.HTTPConnection:
        if self.tls:
            return http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)


OPEN = Door()


def ask(
    host: str, method: str, path: str, body: bytes | None = None, timeout: float = 5.0, door: Door = OPEN, **headers: str
) -> Answer:
    """One request to a host's router; OSError where nothing answers."""
    connection = door.connect(PORTS[host], timeout)
    headers |= door.headers
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return Answer(connection.getresponse())
    except http.client.HTTPException as error:
        raise OSError(f"{host}: {error!r}") from error
    finally:
        connection.close()


def until(what: str, seconds: float, condition) -> None:
    """Waits for a condition; what it last said or raised is in the complaint."""
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            last = condition()
            if last is True:
                return
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            last = error
        time.sleep(0.25)
    raise AssertionError(f"{what}: not within {seconds:.0f} s: {last}")


class Load:
    """Writers that put objects of their own through any host, and try the others where one fails."""

    def __init__(self, writers: int = 4):
        self.acked: dict[str, bytes] = {}
        self.refused: list[str] = []
        self.retried = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, daemon=True) for _ in range(writers)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self) -> None:
        while not self._stop.is_set():
            self.put(str(uuid.uuid4()))
            time.sleep(0.01)

    def put(self, key: str) -> None:
        """A retry carries the same name of the write, so that it is applied once."""
        value, name, why = random.randbytes(200), str(uuid.uuid4()), []
        for host in random.sample(list(PORTS), len(PORTS)):
            try:
                answer = ask(host, "PUT", f"/v1/kv/load/{key}", value, Idempotency_Key=name)
                if answer.status == 204:
                    with self._lock:
                        self.acked[key] = value
                        self.retried += bool(why)
                    return
                why.append(f"{host}: {answer.status} {answer.body[:120]!r}")
            except OSError as error:
                why.append(f"{host}: {error}")
        with self._lock:
            self.refused.append("; ".join(why))

    def count(self) -> int:
        with self._lock:
            return len(self.acked)

    def progress(self, what: str, seconds: float = 10) -> None:
        """Writes go on now."""
        before = self.count()
        until(f"writes while {what}", seconds, lambda: self.count() >= before + 20)


def lost(acked: dict[str, bytes], hosts=tuple(PORTS), door: Door = OPEN) -> list[str]:
    """Acknowledged objects that some host does not return as they were written."""
    missing = []
    for key, value in acked.items():
        for host in hosts:
            answer = ask(host, "GET", f"/v1/kv/load/{key}", door=door)
            if answer.status != 200 or answer.body != value:
                missing.append(f"{key} through {host}: {answer.status}")
    return missing

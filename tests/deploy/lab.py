"""A laboratory for containers: an engine of its own in namespaces of its own. However a run ends, the kernel ends
everything that it has started."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

# Debian's client has BuildKit built in; a newer one without buildx may come earlier in PATH.
DOCKER = "/usr/bin/docker" if os.access("/usr/bin/docker", os.X_OK) else "docker"
# A program of its own, or a plugin of the client.
COMPOSE = ["/usr/bin/docker-compose"] if os.access("/usr/bin/docker-compose", os.X_OK) else [DOCKER, "compose"]

# Tells a program that it runs in the namespaces, and which folder is there for it.
LAB = "ATOLL_LAB"


def run(*command: object, **options: object) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Outside:
    """Before the namespaces, where the network is: prepares a folder, runs a program with it, and removes it."""

    def __enter__(self) -> "Outside":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="atoll-lab-"))
        return self

    def inside(self, *program: object) -> int:
        """Runs a program of Python with network, processes and mounts of its own; its exit code."""
        # Not `ip netns exec`, which remounts /sys and hides the control groups.
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child",
                   "tini", "--"]
        env = {**os.environ, LAB: str(self.folder)}
        child = subprocess.Popen([*command, sys.executable, *map(str, program)], env=env)
        # `unshare` heeds no other signal; its end is that of the first process, and so of all.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: child.kill())
        status = child.wait()
        return status if status >= 0 else 128 - status

    def __exit__(self, *_: object) -> None:
        name = self.folder.name
        for _ in range(100):
            # Of each controller, or of all in one; the last processes may still be ending.
            for top in (pathlib.Path("/sys/fs/cgroup"), *pathlib.Path("/sys/fs/cgroup").iterdir()):
                for group in sorted(top.glob(f"{name}/**/"), reverse=True):
                    subprocess.run(["rmdir", group], capture_output=True)
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists() and not list(pathlib.Path("/sys/fs/cgroup").glob(f"**/{name}")):
                return
            time.sleep(0.1)
        print(f"{self.folder} or control groups of this name are left", file=sys.stderr)


class Engine:
    """dockerd by hand, inside the namespaces, which end it."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.env = {**os.environ, "DOCKER_HOST": f"unix://{folder}/docker.sock", "DOCKER_BUILDKIT": "1"}

    def start(self) -> None:
        run("ip", "link", "set", "lo", "up")
        limits = {"nofile": {"Name": "nofile", "Hard": 4096, "Soft": 4096}}
        config = {
            "data-root": f"{self.folder}/data", "exec-root": f"{self.folder}/exec", "pidfile": f"{self.folder}/docker.pid",
            "hosts": [f"unix://{self.folder}/docker.sock"], "bridge": "none", "storage-driver": "overlay2",
            # Where raising limits is not allowed, a container with the engine's default does not start.
            "default-ulimits": limits,
            "cgroup-parent": f"/{self.folder.name}",
        }
        (self.folder / "daemon.json").write_text(json.dumps(config))
        with open(self.folder / "dockerd.log", "wb") as log:
            command = ["dockerd", "--config-file", f"{self.folder}/daemon.json"]
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        for _ in range(300):
            if process.poll() is not None:
                break
            if subprocess.run([DOCKER, "version"], env=self.env, capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError("dockerd does not answer\n" + (self.folder / "dockerd.log").read_text()[-2000:])

    def docker(self, *args: object, **options: object) -> str:
        return run(DOCKER, *args, env=self.env, **options)

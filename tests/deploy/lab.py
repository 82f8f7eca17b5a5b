"""A laboratory for containers: an engine of its own in a network namespace of its own, gone at the end."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

# Debian's client has BuildKit built in; a newer one without buildx may come earlier in PATH.
DOCKER = "/usr/bin/docker" if os.access("/usr/bin/docker", os.X_OK) else "docker"
COMPOSE = "/usr/bin/docker-compose" if os.access("/usr/bin/docker-compose", os.X_OK) else "docker-compose"


def run(*command: object, **options: object) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def in_namespace() -> None:
    """Runs this program again in a network namespace made for it, and ends with its exit code."""
    if os.environ.get("ATOLL_LAB_NETNS"):
        return
    name = f"atoll-lab-{os.getpid()}"
    run("ip", "netns", "add", name)
    status = 1
    try:
        run("nsenter", f"--net=/run/netns/{name}", "ip", "link", "set", "lo", "up")
        # Not `ip netns exec`, which remounts /sys and hides the control groups.
        command = ["nsenter", f"--net=/run/netns/{name}", sys.executable, *sys.argv]
        child = subprocess.Popen(command, env={**os.environ, "ATOLL_LAB_NETNS": name})
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: child.terminate())
        status = child.wait()
    finally:
        run("ip", "netns", "delete", name)
    sys.exit(status)


class Engine:
    """dockerd by hand. A context: started on entry, everything of it removed on exit."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.env = {**os.environ, "DOCKER_HOST": f"unix://{folder}/docker.sock", "DOCKER_BUILDKIT": "1"}
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Engine":
        self.folder.mkdir(parents=True)
        limits = {"nofile": {"Name": "nofile", "Hard": 4096, "Soft": 4096}}
        config = {
            "data-root": f"{self.folder}/data", "exec-root": f"{self.folder}/exec", "pidfile": f"{self.folder}/docker.pid",
            "hosts": [f"unix://{self.folder}/docker.sock"], "bridge": "none", "storage-driver": "overlay2",
            # Where raising limits is not allowed, a container with the engine's default does not start.
            "default-ulimits": limits,
        }
        (self.folder / "daemon.json").write_text(json.dumps(config))
        self.log = open(self.folder / "dockerd.log", "wb")
        command = ["dockerd", "--config-file", f"{self.folder}/daemon.json"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, start_new_session=True)
        try:
            self.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait(self) -> None:
        for _ in range(300):
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "dockerd.log").read_text()[-2000:])
            if subprocess.run([DOCKER, "version"], env=self.env, capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError("dockerd does not answer\n" + (self.folder / "dockerd.log").read_text()[-2000:])

    def docker(self, *args: object, **options: object) -> str:
        return run(DOCKER, *args, env=self.env, **options)

    def __exit__(self, *_: object) -> None:
        if self.process and self.process.poll() is None:
            ids = subprocess.run([DOCKER, "ps", "-aq"], env=self.env, capture_output=True, text=True).stdout.split()
            if ids:
                subprocess.run([DOCKER, "rm", "-f", *ids], env=self.env, capture_output=True)
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.log.close()
        self.unmount()
        shutil.rmtree(self.folder, ignore_errors=True)

    def unmount(self) -> None:
        """Namespaces and layers that a killed engine would leave mounted."""
        mounts = [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", "-l", mount], capture_output=True)

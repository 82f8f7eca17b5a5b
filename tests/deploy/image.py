"""The image: what it is made of, and what has to be in it and nothing else."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

from lab import Engine, run
from sources import SERVICES, Sources

BINARIES = ["atoll", *SERVICES]
TARGET = "x86_64-unknown-linux-gnu"
USER = 65532
DOCUMENTS = {"LICENSE", "THIRD-PARTY.txt", "atoll.cdx.json"}

# Compiled in minutes, not in a quarter of an hour: this is about packing.
QUICK = {"CARGO_PROFILE_RELEASE_LTO": "off", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
         "CARGO_PROFILE_RELEASE_OPT_LEVEL": "0", "CARGO_PROFILE_RELEASE_DEBUG": "none"}

# Every regular file; the engine adds its own to what it exports.
FILES = {
    *(f"usr/local/bin/{name}" for name in BINARIES),
    *(f"usr/share/doc/atoll/{name}" for name in DOCUMENTS | {".keep"}),
    "etc/passwd", "etc/group", "etc/nsswitch.conf", "var/lib/atoll/.keep",
}
OF_THE_ENGINE = {".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"}


def build_binaries(root: pathlib.Path) -> pathlib.Path:
    """Static binaries of the workspace."""
    env = {**os.environ, **QUICK, "RUSTFLAGS": "-C target-feature=+crt-static"}
    packages = [arg for crate in ["atoll-cli", *(crate for crate, _ in SERVICES.values())] for arg in ("-p", crate)]
    # The explicit target keeps build scripts and procedural macros dynamic.
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--target", TARGET, "--bins", *packages]
    subprocess.run(command, cwd=root, env=env, check=True)
    return pathlib.Path(env.get("CARGO_TARGET_DIR", root / "target")) / TARGET / "release"


def pack(root: pathlib.Path, bins: pathlib.Path, context: pathlib.Path) -> None:
    """Puts what the target `prebuilt` needs into a folder, as a release does. Needs the network once, for cargo."""
    (context / "dist").mkdir(parents=True)
    for name in BINARIES:
        run("strip", "-o", context / "dist" / name, bins / name)
        linked = subprocess.run(["ldd", context / "dist" / name], capture_output=True, text=True)
        static = ("statically linked", "not a dynamic executable")
        assert any(text in linked.stdout + linked.stderr for text in static), f"{name} is not static"
    shutil.copytree(root / "docker", context / "docker", ignore=shutil.ignore_patterns("secrets"))
    shutil.copy(root / "LICENSE", context)
    run(sys.executable, root / "docker/supply_chain.py", context / "docker/rootfs/usr/share/doc/atoll")


def build(engine: Engine, context: pathlib.Path, image: str, *options: object) -> None:
    arguments = ["--network=none", "--build-arg", "REVISION=test", "-t", image]
    engine.docker("build", "-q", "-f", context / "docker/Dockerfile", *arguments, *options, context)


def check(root: pathlib.Path, engine: Engine, image: str) -> str:
    """Static binaries on nothing, for a user that is not root, with labels, a health check and the licences."""
    config = json.loads(engine.docker("image", "inspect", image))[0]["Config"]
    assert config["User"] == f"{USER}:{USER}", config
    assert config["Healthcheck"]["Test"][1:] == ["/usr/local/bin/atoll", "health", "--local"], config
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    assert labels.pop("description"), config["Labels"]
    wanted = {"title": "Atoll", "version": Sources(root).version(), "revision": "test", "licenses": "Apache-2.0"}
    assert labels == wanted, labels
    plain = ["run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL", image]
    for name in BINARIES:
        engine.docker(*plain, name, "--help")
    assert labels["version"] in engine.docker(*plain, "atoll", "version")
    return contents(engine, image)


def contents(engine: Engine, image: str) -> str:
    """All files of the image: no others than these, nobody's but root's, and no program with more rights than its user."""
    archive = engine.folder / "contents.tar"
    container = engine.docker("create", image).strip()
    engine.docker("export", "-o", archive, container)
    engine.docker("rm", container)
    with tarfile.open(archive) as tar:
        members = {m.name: m for m in tar if not m.isdir() and m.name not in OF_THE_ENGINE}
        files = {name for name, m in members.items() if m.isreg()}
        assert files == FILES, f"not as it should be: {files ^ FILES}"
        special = [m.name for m in members.values() if m.isreg() and (m.mode & 0o6002 or m.name.startswith("usr/") and m.uid)]
        assert not special, f"others than root may change them, or they have its rights: {special}"
        data = tar.getmember("var/lib/atoll")
        assert (data.uid, data.gid) == (USER, USER), f"the data directory is {data.uid}:{data.gid}'s"
        packed = engine.folder / "context/docker/rootfs/usr/share/doc/atoll"
        for name in ("THIRD-PARTY.txt", "atoll.cdx.json"):
            text = tar.extractfile(f"usr/share/doc/atoll/{name}").read()
            assert text and text == (packed / name).read_bytes(), name
        size = sum(m.size for m in members.values())
    archive.unlink()
    return f"{size / 1e6:.0f} MB, {len(files)} files"

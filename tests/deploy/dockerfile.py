"""The Dockerfile as it is, from sources to image, without a registry: the image of the builder is made here, of Debian, the
toolchain of this machine, and the crates of the lock file.
Usage: dockerfile.py ROOT"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import image
from lab import LAB, Engine, Outside, run

MIRROR = "http://deb.debian.org/debian"
SUITE = "bookworm"
SETTINGS = {"PATH": "/usr/local/bin:/usr/bin:/bin", "CARGO_HOME": "/usr/local/cargo", **image.QUICK}


def builder(root: pathlib.Path, folder: pathlib.Path) -> None:
    """What the published image has that the Dockerfile uses, and the crates, as there is no network in the build."""
    run("debootstrap", "--variant=minbase", "--include=gcc,libc6-dev,ca-certificates", SUITE, folder, MIRROR)
    toolchain = pathlib.Path(run("rustc", "--print", "sysroot", cwd=root).strip())
    for part in ("bin", "lib"):
        shutil.copytree(toolchain / part, folder / "usr/local" / part, symlinks=True, dirs_exist_ok=True)
    cargo = folder / "usr/local/cargo"
    cargo.mkdir()
    source = run("cargo", "vendor", "--locked", folder / "vendor", cwd=root)
    assert "vendored-sources" in source, source
    (cargo / "config.toml").write_text(source.replace(str(folder), ""))


def sources(root: pathlib.Path, context: pathlib.Path) -> None:
    """What a clean checkout has, and what a release adds to it."""
    for name in run("git", "ls-files", "-z", cwd=root).split("\0")[:-1]:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, context / name, follow_symlinks=False)
    run(sys.executable, root / "docker/supply_chain.py", context / "docker/rootfs/usr/share/doc/atoll")


def inside(root: pathlib.Path) -> int:
    engine = Engine(pathlib.Path(os.environ[LAB]))
    engine.start()
    name = re.search(r"^ARG RUST_IMAGE=(\S+)$", (root / "docker/Dockerfile").read_text(), re.M)[1]
    changes = [arg for setting, value in SETTINGS.items() for arg in ("-c", f"ENV {setting}={value}")]
    with subprocess.Popen(["tar", "-C", engine.folder / "builder", "-c", "."], stdout=subprocess.PIPE) as tar:
        engine.docker("import", *changes, "-", name, stdin=tar.stdout)
    assert tar.returncode == 0, "the builder was not packed"
    shutil.rmtree(engine.folder / "builder")
    begun = time.monotonic()
    image.build(engine, engine.folder / "context", "atoll:source")
    print(f"ok   build      {time.monotonic() - begun:5.1f} s  in {name}, made here", flush=True)
    print(f"ok   image      {image.check(root, engine, 'atoll:source')}", flush=True)
    return 0


def main() -> int:
    root = pathlib.Path(sys.argv[1]).resolve()
    if LAB in os.environ:
        return inside(root)
    with Outside() as outside:
        builder(root, outside.folder / "builder")
        sources(root, outside.folder / "context")
        return outside.inside(__file__, root)


if __name__ == "__main__":
    sys.exit(main())

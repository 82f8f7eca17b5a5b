"""What a release says of what is in it is complete: every package of the workspace that is in the image, and every
crate of the lock file that is linked into it, with an allowed licence and its text."""
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(ROOT / "docker"))
import supply_chain  # noqa: E402

# The workspace's own packages that are in the binary `atoll`.
OWN = {"dynamo-core", "service-kit", "membership-svc", "storage-node", "request-router", "anti-entropy-worker",
       "atoll-client", "bench"}


def bill(out: pathlib.Path, linked: set[tuple[str, str]]) -> int:
    text = (out / "atoll.cdx.json").read_text()
    bom = json.loads(text)
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.5"), bom["specVersion"]
    assert bom["metadata"]["component"]["name"] == "atoll-cli"
    assert str(ROOT) not in text, "the bill tells where it was made"
    named = {(c["name"], c["version"]) for c in bom["components"]}
    assert OWN <= {name for name, _ in named}, OWN - {name for name, _ in named}
    missing = {p for p in linked if p[0] != "atoll-cli"} - named
    assert not missing, f"not in the bill: {missing}"
    foreign = [c for c in bom["components"] if c["name"] not in OWN]
    unhashed = [c["name"] for c in foreign if not c.get("hashes")]
    assert not unhashed, f"without a checksum: {unhashed}"
    return len(named)


def licences(out: pathlib.Path, linked: set[tuple[str, str]]) -> int:
    text = (out / "THIRD-PARTY.txt").read_text()
    head, *bodies = re.split(r"^={100}\n\[(\d+)\]\n", text, flags=re.M)
    texts = dict(zip(bodies[::2], bodies[1::2]))
    listed = {}
    for line in head.splitlines()[2:]:
        if line:
            name, version, licence, numbers = re.match(r"^(.+?) ?([\d][^ ]*)? \((.+)\) \[([\d, ]+)\] http", line).groups()
            listed[name, version] = (licence, numbers.split(", "))
    foreign = {p for p in linked if p[0] not in OWN | {"atoll-cli"}}
    assert foreign == {p for p in listed if p[1]}, foreign ^ set(listed)
    allowed = set(tomllib.loads((ROOT / "deny.toml").read_text())["licenses"]["allow"])
    for package, (licence, numbers) in listed.items():
        # One of the choices, with each of its parts.
        choices = re.split(r" OR | ?/ ?", licence.replace("(", "").replace(")", ""))
        fits = [c for c in choices if all(part.split(" WITH ")[0] in allowed for part in c.split(" AND "))]
        assert fits, f"{package}: {licence} is not allowed by deny.toml"
        assert all(number in texts for number in numbers), f"{package}: a text is missing"
        # Some files only say who holds the copyright; one of them has to be the licence.
        assert any(len(texts[number].strip()) > 400 for number in numbers), f"{package}: no licence among its texts"
    return len(listed)


def main() -> None:
    linked = {(p["name"], p["version"]) for p in supply_chain.dependencies()}
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    assert linked <= {(p["name"], p["version"]) for p in lock}, "not what the lock file has"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, ROOT / "docker/supply_chain.py", folder], check=True, stdout=subprocess.DEVNULL)
        out = pathlib.Path(folder)
        print(f"ok   bill      {bill(out, linked)} components")
        print(f"ok   licences  {licences(out, linked)} works of others")
    changed = subprocess.run(["git", "status", "--porcelain", "--", "*/atoll-sbom.json"], cwd=ROOT, capture_output=True)
    assert not changed.stdout, changed.stdout


main()

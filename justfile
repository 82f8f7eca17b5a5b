# The entry points of this repository. `just --list` prints them.

# Everything that continuous integration runs.
check: fmt clippy doc test deny

# Formatting, without changing files.
fmt:
    cargo fmt --all --check

# Lints; warnings are errors.
clippy:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Documentation; warnings are errors.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# All tests.
test:
    cargo test --workspace --locked

# Licences, bans and sources of dependencies.
deny:
    cargo deny --log-level error --locked check licenses bans sources

# The protocol simulation over COUNT random seeds, and the checks of the simulation itself.
sim COUNT="2000":
    ATOLL_SIM_SEEDS={{COUNT}} cargo test --release --locked -p dynamo-core --test simulation -- --nocapture

# Hosts in network namespaces that are cut, wiped, rotten, full and resized. Needs root.
chaos:
    tests/chaos/run

# The web console in a real browser; writes screenshots.
console *ARGS:
    tests/console/run {{ARGS}}

# Bill of materials and licences of a release, for the image.
supply *DIR:
    docker/supply_chain.py {{DIR}}

# The Helm chart, without a cluster.
chart:
    tests/deploy/run chart

# Dashboards and alert rules on a real cluster under load.
monitoring:
    tests/deploy/run monitoring

# The image and three hosts of containers. Needs root; `just compose --bin DIR` takes static binaries.
compose *ARGS:
    tests/deploy/run compose {{ARGS}}

# The image from the sources, without a registry. Needs root.
dockerfile:
    tests/deploy/run dockerfile

# A three-host cluster on this machine.
dev:
    cargo run --release --bin atoll -- dev

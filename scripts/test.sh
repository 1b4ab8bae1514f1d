#!/usr/bin/env bash
# Everything that must hold: formatting, lints, all tests on both storages and both drivers.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/prerequisites.sh test
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
# The end-to-end tests start this very program.
cargo build --locked -p pocketci
# Tests that start servers and agents take turns with few others, so that none waits long for a core.
scripts/with-postgres.sh scripts/with-docker.sh cargo test --workspace --locked --no-fail-fast -- --test-threads "${POCKETCI_TEST_THREADS:-4}"

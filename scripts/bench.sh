#!/usr/bin/env bash
# The benchmarks, on a throwaway PostgreSQL with its default (durable) settings.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/prerequisites.sh demo bench
cargo build --locked --release -p pocketci -p pocketci-benches
scripts/with-postgres.sh "${CARGO_TARGET_DIR:-target}/release/pocketci-benches" "$@"

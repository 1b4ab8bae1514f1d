#!/usr/bin/env bash
# The long form of the fault suite: 2 servers, 3 agents, 500 webhooks, a fault every two seconds, cuts of up to 30 s.
# POCKETCI_CHAOS_SEED=N replays a schedule. Arguments are names of tests.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/prerequisites.sh test
cargo build --locked -p pocketci
export POCKETCI_CHAOS=long
scripts/with-postgres.sh scripts/with-docker.sh \
  cargo test --locked -p pocketci-tests --test chaos -- --test-threads "${POCKETCI_TEST_THREADS:-4}" "$@"

# PocketCI: `make demo` shows the main job, `make test` runs everything. The work is in scripts/.
.PHONY: help build demo test chaos lint fmt check bench compose-test clean
.DEFAULT_GOAL := help

help: ## show the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 16

build: ## the release binary, target/release/pocketci
	cargo build --locked --release -p pocketci

demo: ## build, start a server, answer a signed webhook (KEEP=1 keeps it running)
	@scripts/demo.sh

test: ## formatting, lints and all tests; installs and starts what they need
	@scripts/test.sh

chaos: ## the long fault suite, about ten minutes (POCKETCI_CHAOS_SEED=N replays one)
	@scripts/chaos.sh

lint: ## formatting and lints only
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

fmt: ## format the sources
	cargo fmt --all

check: ## does it compile?
	cargo check --workspace --all-targets --locked

bench: ## the benchmarks: a table and JSON (bench-results.json)
	@scripts/bench.sh

compose-test: ## prove docker-compose.yml with locally made base images
	@scripts/compose-test.sh

clean: ## remove what was built
	cargo clean

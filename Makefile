# Everyday targets. `make help` lists them.

.DEFAULT_GOAL := help
SHELL := /bin/sh

# Where rustup puts cargo, for shells that were opened before it was installed.
export PATH := $(PATH):$(HOME)/.cargo/bin

# Cargo's own setting; it may be set in the environment.
CARGO_TARGET_DIR ?= target
SERVER := $(CARGO_TARGET_DIR)/release/chat-server
BENCH := $(CARGO_TARGET_DIR)/release/chat-bench

# CI uses exactly the versions in Cargo.lock.
LOCKED := $(if $(CI),--locked)

# Each connection is an open file, and the usual limit of a shell is only 1,024.
MORE_FILES := ulimit -n "$$(ulimit -Hn)" 2>/dev/null || true

# `make token ID=alice ARGS='--ttl 1h'`
ID ?= alice

# Each package is built on its own. Built together, they would share dependencies with the features of both, and `cargo test`
# after `make test` would build these again.

# Two installations at once would disturb each other.
.NOTPARALLEL:

.PHONY: help run token config dev build test drill planted bench bench-durability bench-pure check-fmt lint lint-rust lint-lua test-rust test-clients test-web screenshots fmt \
	deps-build deps-redis deps-test deps-peer env clean

help: ## List the targets
	@echo "make targets:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: deps-build env ## Install what is missing, build, and start the server for development
	@scripts/ensure-redis.sh --unless-configured
	@echo "==> building (release)"
	@cargo build --release $(LOCKED)
	@echo "==> starting in development; Ctrl-C stops it"
	@$(MORE_FILES); exec env APP_ENV=dev "$(SERVER)"

token: ## Print a token for development: make token ID=alice ARGS='--ttl 1h'
	@test -x "$(SERVER)" || { echo "error: run make run or make build first" >&2; exit 1; }
	@APP_ENV=dev "$(SERVER)" token $(ARGS) -- "$(ID)"

config: ## Print the settings in effect in development, with secrets masked
	@test -x "$(SERVER)" || { echo "error: run make run or make build first" >&2; exit 1; }
	@APP_ENV=dev "$(SERVER)" config

dev: deps-build env ## Start for development, and rebuild and restart after every change
	@scripts/ensure-redis.sh --unless-configured
	@scripts/ensure-watchexec.sh
	@echo "==> starting in development; restarts after a change, Ctrl-C stops it"
	@$(MORE_FILES); exec env APP_ENV=dev watchexec --restart --stop-signal SIGTERM --stop-timeout 15s \
		--shell=none --watch src --watch lua --watch Cargo.toml --watch .env.dev -- cargo run

build: deps-build ## Build the server (release)
	cargo build --release $(LOCKED)

test: deps-build deps-redis deps-test ## Install what is missing, and run every check and test
	@$(MAKE) --no-print-directory check-fmt
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory test-rust
	@$(MAKE) --no-print-directory test-clients
	@$(MAKE) --no-print-directory test-web
	@echo "==> all checks and tests passed"

drill: deps-build deps-redis ## Prove the promises under faults at full scale; prints a table
	@$(MORE_FILES); DRILL_FULL=1 cargo test --release $(LOCKED) --test drill drill:: -- --nocapture

planted: deps-build ## Prove that the property test of the hub finds the faults in tests/planted (5 minutes)
	@scripts/planted.sh

bench-durability: deps-build deps-redis ## Measure what each DURABILITY costs
	cargo build --release $(LOCKED)
	cargo build --release $(LOCKED) --package chat-bench
	@CARGO_TARGET_DIR="$(abspath $(CARGO_TARGET_DIR))" scripts/bench-durability.sh

bench: deps-build deps-redis deps-peer ## Measure everything in BENCHMARKS.md; make bench ARGS=--quick tries it
	cargo build --release $(LOCKED)
	cargo build --release $(LOCKED) --package chat-bench
	@$(MORE_FILES); exec "$(BENCH)" table --server "$(SERVER)" $(ARGS)

bench-pure: deps-build ## Measure only parsing, encoding and fan-out, without Redis and sockets
	cargo bench $(LOCKED) --bench pure -- $(ARGS)

lint: lint-rust lint-lua ## Check Rust with clippy and Lua with luacheck

fmt: ## Format the Rust code
	cargo fmt --all

clean: ## Remove everything that was built, but not the data
	cargo clean

check-fmt:
	@echo "==> rustfmt: is the code formatted? (make fmt does it)"
	cargo fmt --all --check

lint-rust:
	@echo "==> clippy"
	cargo clippy --all-targets $(LOCKED) -- -D warnings
	cargo clippy --package chat-bench --all-targets $(LOCKED) -- -D warnings

lint-lua:
	@echo "==> luacheck"
	luacheck lua src

test-rust:
	@echo "==> cargo test"
	cargo test $(LOCKED)
	cargo test --package chat-bench $(LOCKED)

# The server is the one that test-rust builds: built on its own, it would need its dependencies once more with other features.
test-clients:
	@echo "==> the tests with Socket.IO clients of other projects"
	cargo test --no-run --test it $(LOCKED)
	CHAT_SERVER_BIN="$(abspath $(CARGO_TARGET_DIR))/debug/chat-server" tests/clients/run.sh

test-web:
	@echo "==> the tests of the page in Chromium"
	cargo test --no-run --test it $(LOCKED)
	CHAT_SERVER_BIN="$(abspath $(CARGO_TARGET_DIR))/debug/chat-server" tests/web/run.sh

screenshots: deps-build deps-redis deps-test ## Renew the pictures of the page that the documents show
	cargo build $(LOCKED)
	CHAT_SERVER_BIN="$(abspath $(CARGO_TARGET_DIR))/debug/chat-server" tests/web/run.sh --screenshots

deps-build:
	@scripts/ensure-build-tools.sh

deps-redis:
	@scripts/ensure-redis.sh

deps-test:
	@scripts/ensure-test-tools.sh

deps-peer:
	@scripts/ensure-peer.sh

env:
	@scripts/ensure-env.sh

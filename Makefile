# The front door. Each target does its own set-up, as root or as an ordinary user with sudo.
#
#   make demo       what it does, in half a minute
#   make test       lint, unit, e2e and docs: everything
#   make install    build and install into the Postgres of PG_CONFIG=/path/to/pg_config
#   make cli        the command line, as target/release/intcred
#   make lint       format, clippy and, where it is installed, cargo deny
#   make unit       the tests that need no Postgres
#   make e2e        the tests against live clusters
#   make fuzz       a minute (FUZZ_SECONDS) of fuzzing; the first build takes some minutes
#   make soak       10,000 rotations while everything breaks at random, then statements and hostile texts at random;
#                   each for five minutes or SOAK_MINUTES=
#   make bench      how fast it is, against what people write by hand: 15 minutes; 3 with QUICK=1
#   make docs       the documentation of the library, with warnings as errors
#   make deps       what building and testing need
#   make clean      remove what was built

SHELL       := /bin/bash -o pipefail
PG_CONFIG   ?= $(or $(shell command -v pg_config),/usr/lib/postgresql/15/bin/pg_config)
# Writing into Postgres' own folders wants root; elsewhere it does not.
SUDO        := $(if $(filter 0,$(shell id -u)),,--sudo)
CARGO_PGRX  := tests/cargo-pgrx

# For the tests, and for the build script of pgrx, whoever starts the build.
export PG_CONFIG
export PGRX_PG_CONFIG_PATH := $(PG_CONFIG)
# So that a panic in a test is one line, and what the server's environment says plays no part.
export RUST_BACKTRACE := 0
export QUICK

.PHONY: demo test lint unit e2e fuzz docs install cli deps clean soak bench

demo: install
	cargo build --quiet --locked --package intcred
	cargo run --quiet --locked --package tests --example demo

test: lint unit e2e docs

lint: deps
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- --deny warnings
	if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; fi

unit: deps
	cargo test --locked --features integration-credentials-core/rules,intcred/pool --package integration-credentials-core --package intcred

e2e: install
	cargo build --locked --package intcred --bins --examples
	cargo test --locked --package tests

fuzz: deps
	extension/core/fuzz/run

soak: install
	cargo test --locked --package tests --test faults -- --include-ignored --exact soak::ten_thousand_rotations
	cargo test --locked --package tests --test e2e -- --include-ignored --exact \
		leaks::random::nor_in_any_spelling_at_all hostile::no_text_at_all_takes_a_server_down

# Leave the machine alone meanwhile. The report goes to target/bench.
bench: install
	cargo bench --quiet --locked --package intcred --bench cache -- $(if $(filter-out 0,$(QUICK)),--quick)
	cargo bench --locked --package tests --bench server

docs: deps
	RUSTDOCFLAGS="--deny warnings" cargo doc --locked --workspace --no-deps

install: deps
	$(CARGO_PGRX) install --release $(SUDO) --package integration_credentials --pg-config $(PG_CONFIG)

cli:
	cargo build --locked --release --package intcred

deps:
	tests/install-deps

clean:
	cargo clean

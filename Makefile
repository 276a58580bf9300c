# The front door. Each target does its own set-up, as root or as an ordinary user with sudo. `make` lists the targets.

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

.PHONY: help demo test lint unit e2e generate fuzz docs install cli deps clean soak bench
.DEFAULT_GOAL := help

help: # list the targets
	@sed -n -E 's/^([a-z0-9-]+):[^#]*# /  make \1 |/p' $(firstword $(MAKEFILE_LIST)) | column -t -s '|'
	@printf '\n  PG_CONFIG=%s\n' '$(PG_CONFIG)'

demo: install # what it does, in half a minute
	cargo build --quiet --locked --package intcred
	cargo run --quiet --locked --package tests --example demo

test: lint unit e2e docs # everything: lint, unit, e2e and docs

lint: deps # format, clippy and cargo-deny
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- --deny warnings
	tests/cargo-deny

unit: deps # the tests that need no Postgres
	cargo test --locked --features integration-credentials-core/rules,intcred/pool --package integration-credentials-core --package intcred

e2e: install # the tests against live clusters; those of one file with TEST=validators
	cargo build --locked --package intcred --bins --examples
	cargo test --locked --package tests $(if $(TEST),--test e2e --test faults -- '$(TEST)::')

generate: install # write the parts of docs/ that tests generate
	cargo build --locked --package intcred --bins
	GENERATE_DOCS=1 cargo test --locked --package tests --test e2e -- documents:: leaks::a_secret_is_nowhere

fuzz: deps # a minute, or FUZZ_SECONDS=, of fuzzing; the first build takes some minutes
	extension/core/fuzz/run

soak: install # random faults, statements and hostile texts; five minutes each, or SOAK_MINUTES=
	cargo test --locked --package tests --test faults -- --include-ignored --exact soak::ten_thousand_rotations
	cargo test --locked --package tests --test e2e -- --include-ignored --exact \
		leaks::random::nor_in_any_spelling_at_all hostile::no_text_at_all_takes_a_server_down

bench: install # against what people write by hand: 15 minutes of a quiet machine, 3 with QUICK=1; writes target/bench
	cargo bench --quiet --locked --package intcred --bench cache -- $(if $(filter-out 0,$(QUICK)),--quick)
	cargo bench --locked --package tests --bench server

docs: deps # the documentation of the library, with warnings as errors
	RUSTDOCFLAGS="--deny warnings" cargo doc --locked --workspace --no-deps

install: deps # build and install into the Postgres of PG_CONFIG=/path/to/pg_config
	$(CARGO_PGRX) install --release $(SUDO) --package integration_credentials --pg-config $(PG_CONFIG)

cli: # the command line, as target/release/intcred
	cargo build --locked --release --package intcred

deps: # what building and testing need
	tests/install-deps

clean: # remove what was built
	cargo clean

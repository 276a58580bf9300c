# The front door. Each target does its own set-up, as root or as an ordinary user with sudo. `make` lists the targets.

SHELL       := /bin/bash -o pipefail
# PG=18 is the PostgreSQL 18 in Debian's place or, where there is none, the one that tests/install-postgres brings. The
# servers of root's tests run as another user, who cannot look into root's home.
MAJORS      := 15 16 17 18
ROOT        := $(filter 0,$(shell id -u))
CACHE       := $(if $(ROOT),/var/cache,$(HOME)/.cache)/integration_credentials
DEBIANS     := /usr/lib/postgresql/$(or $(PG),15)/bin/pg_config
ifdef PG
PG_CONFIG   := $(if $(filter 15,$(PG))$(wildcard $(DEBIANS)),$(DEBIANS),$(CACHE)/postgresql-$(PG)/bin/pg_config)
endif
PG_CONFIG   ?= $(or $(shell command -v pg_config),$(DEBIANS))
# Writing into Postgres' own folders wants root; elsewhere it does not.
SUDO        := $(if $(ROOT)$(filter $(CACHE)/%,$(PG_CONFIG)),,--sudo)
CARGO_PGRX  := tests/cargo-pgrx
# The extension is built for one major.
FEATURES     = --no-default-features \
	--features intcred/default,integration_credentials/pg$(shell $(PG_CONFIG) --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')

# For the tests, and for the build script of pgrx, whoever starts the build.
export PG PG_CONFIG
export PGRX_PG_CONFIG_PATH := $(PG_CONFIG)
# The released versions, and the tests that their SQL must pass with the library of today.
RELEASED    := $(shell sed -n 's/.* integration_credentials--\([^-]*\)\.sql$$/\1/p' sql/SHA256SUMS)
CALLS       := arguments:: audit:: cache:: catalog:: catalog_cache:: listen:: metering:: notify:: orgs:: privileges:: sealed:: \
	set:: sync_handlers:: validators::
E2E         := --test e2e --test faults --test mcp_clients
# The clients of `intcred mcp` care for no major: they are tested on one.
TARGETS     := $(if $(filter 16 17 18,$(PG)),--lib --test harness --test e2e --test faults)
# The registries may have a bad moment.
export CARGO_NET_RETRY := 10
# So that a panic in a test is one line, and what the server's environment says plays no part.
export RUST_BACKTRACE := 0
# The tests against live clusters wait for longer than they compute.
export RUST_TEST_THREADS ?= $(shell cores=$$(nproc); echo $$((cores > 4 ? cores : 4)))
export QUICK ROWS

.PHONY: help demo test test-majors lint unit e2e generate fuzz docs install cli deps clean soak bench bench-fanout bench-mcp \
	performance deb test-packages all
.DEFAULT_GOAL := help

help: # list the targets
	@sed -n -E 's/^([a-z0-9-]+):[^#]*# /  make \1 |/p' $(firstword $(MAKEFILE_LIST)) | column -t -s '|'
	@printf '\n  PG_CONFIG=%s\n' '$(PG_CONFIG)'

demo: install # what it does, in half a minute
	cargo build --quiet --locked --package intcred
	cargo run --quiet --locked --package tests --example demo

test: lint unit e2e docs # everything: lint, unit, e2e and docs

test-majors: unit # unit, then e2e on each of PostgreSQL 15 to 18, or of MAJORS='16 17'
	@# Of the same age as the others: pg_upgrade takes no cluster of a newer minor release than its own.
	$(MAKE) --no-print-directory install PG_CONFIG=$(CACHE)/postgresql-15/bin/pg_config
	set -e; for major in $(MAJORS); do \
		PG_UPGRADE_FROM=$(CACHE)/postgresql-15/bin/pg_config $(MAKE) --no-print-directory e2e PG=$$major; done

lint: deps # format, clippy and cargo-deny
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked $(FEATURES) -- --deny warnings
	tests/cargo-deny

unit: deps # the tests that need no Postgres
	cargo test --locked --features integration-credentials-core/rules,intcred/pool --package integration-credentials-core --package intcred

e2e: install # the tests against live clusters; or those of TEST=validators
	cargo build --locked --package intcred --bins --examples
ifdef TEST
	@cargo test --quiet --locked --package tests $(E2E) -- '$(TEST)' --list | grep ': test$$' || \
		{ echo "no test has the name TEST=$(TEST)" >&2; exit 1; }
	cargo test --locked --package tests $(E2E) -- '$(TEST)'
else
	cargo test --locked --package tests $(TARGETS)
	@# What an earlier version can do, it can do with this library.
	set -e; for version in $(RELEASED); do EXTENSION_VERSION=$$version cargo test --locked --package tests --test e2e -- $(CALLS); done
endif

generate: install # write the parts of docs/ that tests generate; all of them with PG=18
	cargo build --locked --package intcred --bins
	GENERATE_DOCS=1 cargo test --locked --package tests --test e2e -- documents:: leaks::a_secret_is_nowhere
	GENERATE_DOCS=1 cargo test --locked --package tests --test mcp_clients -- page::page_is_read

fuzz: deps # a minute, or FUZZ_SECONDS=, of fuzzing; the first build takes some minutes
	extension/core/fuzz/run

soak: install # random faults, statements and hostile texts; five minutes each, or SOAK_MINUTES=, and half an hour of rotations
	cargo test --locked --package tests --test faults -- --include-ignored --exact soak::ten_thousand_rotations \
		converged::no_verdict_of_ten_thousand_rotations_is_wrong
	cargo test --locked --package tests --test e2e -- --include-ignored --exact \
		leaks::random::nor_in_any_spelling_at_all hostile::no_text_at_all_takes_a_server_down

bench-mcp: install # the MCP server: start, calls a second, memory; a minute
	cargo build --release --locked --package intcred --bins
	cargo bench --locked --package tests --bench mcp

bench-fanout: install # thousands of caches on one server; fifteen minutes
	cargo bench --locked --package tests --bench fanout

bench: install # against what people write by hand: 15 minutes of a quiet machine, 3 with QUICK=1, or the rows of ROWS=ledger,renewal; writes target/bench
	cargo bench --quiet --locked --package intcred --bench cache -- $(if $(filter-out 0,$(QUICK)),--quick)
	cargo bench --locked --package tests --bench server

docs: deps # the documentation of the library, with warnings as errors
	RUSTDOCFLAGS="--deny warnings" cargo doc --locked --workspace --no-deps $(FEATURES)

install: deps # build and install into the Postgres of PG=18 or PG_CONFIG=/path/to/pg_config
	$(CARGO_PGRX) install --release $(SUDO) --package integration_credentials --pg-config $(PG_CONFIG)
	$(if $(SUDO),sudo) install -m 644 sql/integration_credentials--*.sql "$$($(PG_CONFIG) --sharedir)/extension/"

# `pgxn install` runs `make all` and `make install`.
all: deps

performance: # docs/performance.md and its plots, by a quick run: seven minutes of a quiet machine
	GENERATE_DOCS=1 QUICK=1 $(MAKE) --no-print-directory bench

cli: # the command line, as target/release/intcred
	cargo build --locked --release --package intcred

deb: # Debian packages of the extension and of the command line, into target/packages
	packaging/deb

test-packages: deps # builds, uses and purges the packages in clean roots of Debian 12 and 13; as root, half an hour
	command -v mmdebstrap >/dev/null || apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
	cargo install --quiet --locked --root target/packages/tools --version =0.7.0 pgxn_meta
	PATH=$$PWD/target/packages/tools/bin:$$PATH cargo test --locked --package tests --test packages -- \
		--include-ignored --test-threads=1 --nocapture

deps: # what building and testing need
	tests/install-deps

clean: # remove what was built
	cargo clean

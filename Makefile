# What one does by hand. `make` alone lists it.
#
#   make demo     three regions on this machine, in front of a real origin; Ctrl-C stops it
#                 (make demo ARGS='--network 1' if other programs have its addresses)
#   make test     all tests: of the crates, of whole nodes, of the admin interface
#   make sim      a fleet in simulated time, SEEDS=1000 of them; SEED=17 runs one and shows its trace; CARRIER=quic over the
#                 node's own mesh (docs/simulation.md)
#   make chaos    the tests of minutes: nodes killed and cut off for ten of them, a million purges during an absence, purges
#                 over links as long as between continents (make chaos ARGS=ten_minutes for one of them); as root on Linux
#                 partitions are nftables rules in a network namespace, else a shim's (MERIDIAN_PARTITIONS=nft|shim)
#   make model    every state of the purge protocol's larger models (docs/purge-protocol.md); takes very long
#   make dns-cases  malformed DNS messages: what Meridian answers, beside gdnsd and Knot if they are installed (or named by
#                 MERIDIAN_PEER_GDNSD, MERIDIAN_PEER_KNOT, MERIDIAN_PEER_KNOT_MODULES, MERIDIAN_PEERS_LIBRARIES)
#   make lint     formatting, clippy, dependencies, types of the admin interface
#   make bench    Meridian beside nginx's proxy_cache on one core; `make bench-hot` for single functions
#                 `make bench-purging`: what purges cost hits; `make bench-dns`: DNS beside gdnsd and Knot
#   make build    the admin interface, and the binary with it in it: target/release/meridian

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

RELEASE := $(or $(CARGO_TARGET_DIR),target)/release/meridian
BINARY := $(or $(CARGO_TARGET_DIR),target)/debug/meridian
UI := admin-ui/dist/index.html
UI_SOURCES := $(shell find admin-ui/src admin-ui/public -type f) $(wildcard admin-ui/*.html admin-ui/*.json admin-ui/*.js admin-ui/*.ts)
say = @printf '==> %s\n'

.PHONY: help build demo test chaos model sim dns-cases lint bench bench-hot bench-purging bench-dns tools binary

help:
	@sed -n 's/^#   //p' Makefile

demo: tools-demo $(UI) binary deploy/demo-origin/node_modules/.package-lock.json
	$(say) 'starting the demo'
	@exec $(BINARY) demo $(ARGS)

test: tools-test $(UI) binary $(patsubst %/package-lock.json,%/node_modules/.package-lock.json,\
		$(wildcard tests/*/package-lock.json) deploy/demo-origin/package-lock.json)
	$(say) 'testing the crates, and whole nodes'
	@cargo test --workspace --exclude simulation
	$(say) 'testing a fleet in simulated time'
	@cargo test -p simulation
	$(say) 'testing the admin interface'
	@npm --prefix admin-ui run --silent test

# one after the other: each has the machine for itself. The kernel parts the nodes of the storms where this user may tell it to
PARTITIONS = $(or $(MERIDIAN_PARTITIONS),$(shell \
	unshare --net sh -c 'ip link set lo up && nft list ruleset' >/dev/null 2>&1 && echo nft || echo shim))
chaos: tools-chaos build
	$(say) 'testing whole nodes under faults, for some forty minutes; MERIDIAN_PARTITIONS=$(PARTITIONS)'
	@[ -n "$(ARGS)" ] || MERIDIAN_LONG=1 cargo test --release -p rules steering::
	@MERIDIAN_PARTITIONS=$(PARTITIONS) MERIDIAN_BIN=$(abspath $(RELEASE)) cargo test --release -p tests $(or $(ARGS),chaos::) -- --ignored --nocapture --test-threads 1
	$(if $(ARGS),,$(say) 'ten million mutated DNS messages')
	$(if $(ARGS),,@cargo test --release -p meridian --lib dns::tests::fuzz -- --ignored --nocapture)

model: tools-model
	$(say) 'looking at every state of every configuration'
	@cargo run --release --quiet -p purge-model
	$(say) 'leaving out every guard'
	@cargo run --release --quiet -p purge-model mutants

SEEDS ?= 1000
sim: tools-build $(UI)
	@cargo run --quiet --release -p simulation -- $(if $(filter quic,$(CARRIER)),--quic) $(if $(SEED),--seed $(SEED),$(SEEDS))

dns-cases: tools-test $(UI) binary
	@MERIDIAN_DNS_PEERS=gdnsd,knot cargo test -p tests single::dns::messages -- --nocapture

lint: tools-lint admin-ui/node_modules/.package-lock.json
	$(say) 'formatting'
	@cargo fmt --all --check
	$(say) 'clippy'
	@cargo clippy --workspace --all-targets -- -D warnings
	$(say) 'dependencies'
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check; \
		else echo 'cargo-deny is not installed, so licences and advisories were not checked: cargo install cargo-deny'; fi
	$(say) 'types of the admin interface'
	@npm --prefix admin-ui run --silent check

bench: tools-bench $(UI)
	@benches/compare.sh

bench-hot: tools-bench
	@cargo bench -p benches

bench-purging: tools-bench
	@cargo bench -p benches --bench purging

bench-dns: tools-bench-dns $(UI)
	@benches/dns.sh

build: tools-build $(UI)
	@cargo build --release -p meridian

# cargo shows its own progress, and knows best what is fresh
binary:
	$(say) 'building meridian (the first time takes some minutes)'
	@cargo build -p meridian

tools-%:
	@tests/tools.sh $*

$(UI): $(UI_SOURCES) admin-ui/node_modules/.package-lock.json
	$(say) 'building the admin interface'
	@npm --prefix admin-ui run --silent build -- --logLevel warn
	@touch $@

# npm writes this file at the end of an installation, so it is as good as a stamp
%/node_modules/.package-lock.json: %/package-lock.json
	$(say) 'installing the packages of $*'
	@npm --prefix $* ci --silent --no-audit --no-fund
	@touch $@

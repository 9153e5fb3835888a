# Targets for people: `make build`, `make demo`, `make test`. `make help` lists them all.
GO      ?= go
BIN     := bin/hikyaku
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null)
BUILD   := hikyaku/tools/hikyaku/build
LDFLAGS := -s -w -X $(BUILD).version=$(VERSION) -X $(BUILD).commit=$(COMMIT)
FUZZTIME ?= 20s

.PHONY: help build build-static demo cluster test test-deps test-long check vet lint golangci docs bench bench-quick fuzz clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# On Linux it uses glibc's loader, to sign with the libcrypto of the machine it
# runs on; nothing of either is needed to build it.
build: ## build bin/hikyaku, one binary
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./tools/hikyaku

build-static: ## build bin/hikyaku for Alpine and empty containers; RSA signatures cost more
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -tags static -ldflags '$(LDFLAGS)' -o $(BIN) ./tools/hikyaku

demo: build ## start a node and a receiving MTA, send by SMTP and HTTP, balance the ledger
	$(BIN) demo

cluster: build ## run three nodes, three etcd members and simulated carriers on loopback, until Ctrl-C
	$(BIN) dev cluster

test-deps: .peers/ready ## install the real peers that the tests talk to (Debian; elsewhere says what to install)
	@sh tools/test-deps.sh

# Mail servers that cannot be installed beside Postfix, in a directory of the
# project; the tests and "bench peers" find them by this variable.
export HIKYAKU_PEERS_DIR ?= $(CURDIR)/.peers

.peers/ready: tools/bench-peers.sh tools/test-deps.sh
	@sh tools/test-deps.sh
	@sh tools/bench-peers.sh .peers >/dev/null
	@touch $@

test: test-deps build ## everything a change must pass: checks, tests, peers, fuzz seeds; skips nothing
	@$(MAKE) --no-print-directory check
	HIKYAKU_REQUIRE_PEERS=1 HIKYAKU_BIN=$(CURDIR)/$(BIN) $(GO) test -count=1 -timeout 20m ./...
	HIKYAKU_REQUIRE_PEERS=1 $(GO) test -count=1 -short -race -timeout 20m $(RACE_PKGS)
	@$(MAKE) --no-print-directory fuzz FUZZTIME=5s

# The packages with concurrency of their own; the race detector needs cgo and gcc.
RACE_PKGS := ./spool/... ./scheduler/... ./node/... ./controlplane/... ./bench/ledger ./bench/load/... ./bench/measure ./bench/live ./bench/sink

test-long: test-deps build ## kill -9 rounds, every crash point, a thousand simulated clusters, faults by many seeds
	HIKYAKU_LONG=1 HIKYAKU_REQUIRE_PEERS=1 $(GO) test -count=1 -timeout 80m -v -run 'Long|Crash|Kill|Model|Negative|OpenAPIFuzz|Stories' ./spool/... ./node/ingest/... ./node/transfer/... ./controlplane/... ./tools/hikyaku ./bench/...

check: vet lint ## format, vet, import rules, generated docs

vet:
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not formatted: run gofmt -w on"; echo "$$out"; exit 1; fi
	$(GO) vet ./...

lint: ## import rules, house limits and generated docs, as tests
	$(GO) test -count=1 ./tools/lint/... ./tools/docgen/...
	$(GO) test -count=1 -run UpToDate ./tools/hikyaku

# Not part of check: whether a change passes must not hang on which release of
# a linter a machine happens to have.
golangci: ## golangci-lint with .golangci.yml (says how to install it)
	@command -v golangci-lint >/dev/null 2>&1 || { echo "not installed: go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0" >&2; exit 1; }
	golangci-lint run ./...

docs: ## write docs/configuration.md and docs/cli.md from the types
	$(GO) run ./tools/docgen

bench: build test-deps ## the figures of docs/performance.md, beside Postfix in the same run
	$(GO) test -count=1 -timeout 60m -run '^$$' -bench 'EndToEnd|Backlog' -benchtime 1x ./bench/...

bench-quick: build test-deps ## three short comparisons beside the bare limit, under 3 minutes, into bench/results
	$(BIN) bench peers --quick -o bench/results

fuzz: ## every fuzzer for FUZZTIME (20 s)
	@sh tools/fuzz.sh $(FUZZTIME)

clean:
	rm -rf bin .peers

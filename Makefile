# Everything below a target's colon that is missing is set up first. `make help` lists the targets.
SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?= python3
# The pinned Node.js and CDK CLI come before the machine's.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: run
run: node_modules/.installed build-agent ## start the agent on this machine, and say how to give it a task
	@bin/berth up --local

.PHONY: stop
stop: build-agent ## end the agent that `make run` started; its sessions wait for the next one
	@bin/berth down --local

.PHONY: deploy-local
deploy-local: setup ## deploy the stack on an AWS emulator on this machine, and print its outputs
	@emulator/deploy-local

.PHONY: stop-local
stop-local: ## end the emulator that `make deploy-local` started, and forget what is in it
	@emulator/stop-local

.PHONY: build
build: build-agent ## build bin/berth, bin/berthd and bin/infra
	go build -o bin/infra ./infra

.PHONY: build-agent
build-agent:
	go build -o bin/ ./cmd/berth ./cmd/berthd

# The tiers that take minutes run side by side (-p), the longest first, each with its output in one piece. What this machine's kernel lets nobody run is
# named in the end: the tests of the image are all that there is.
.PHONY: test
test: setup build ## run every test: Go, the emulator's own, and end to end
	go vet ./...
	go vet -tags e2e ./e2e/... ./internal/claude ./internal/scripted ./internal/gateway
	go test ./...
	.venv/bin/python -m pytest -q emulator
	@rm -f bin/not-run
	BERTH_NOT_RUN=$(CURDIR)/bin/not-run go test -tags e2e -count 1 -timeout 25m -p 2 -parallel 4 -v ./e2e/local ./e2e/cloud ./e2e ./internal/claude ./internal/scripted ./internal/gateway
	@if [ -e bin/not-run ]; then cat bin/not-run; fi

.PHONY: test-image
test-image: setup build ## only the story of a deployment: build the image and run it as Fargate would (as root; needs dockerd and mmdebstrap)
	go test -tags e2e -count 1 -timeout 25m -v ./e2e/cloud

.PHONY: soak
soak: setup build ## kill agents, Claude Code and work disks at random, 200 times (BERTH_SOAK=n: n times)
	BERTH_SOAK=$${BERTH_SOAK:-200} go test -tags e2e -count 1 -timeout 4h -parallel 3 -v -run TestCrashMatrix ./e2e/local

.PHONY: golden
golden: ## renew the golden templates and the generated parts of the documentation
	go test ./infra ./internal/options ./internal/cost -update
	go test ./cmd/berth -run TestOperationsPage -update

.PHONY: lint
lint: ## run the linters (the first run builds them: some minutes)
	go tool -modfile=tools/go.mod golangci-lint run ./...

.PHONY: format
format: ## format the Go code
	go tool -modfile=tools/go.mod gofumpt -w $$(git ls-files '*.go')

.PHONY: release-check
release-check: setup ## build the archives of a release, and test what is in them (the first run builds goreleaser: some minutes)
	go tool -modfile=tools/release.mod goreleaser check
	go tool -modfile=tools/release.mod goreleaser release --snapshot --clean --parallelism 2
	go vet -tags release ./e2e/release
	go test -tags release -count 1 -timeout 10m -v ./e2e/release

.PHONY: vulncheck
vulncheck: ## look the dependencies up in Go's vulnerability database (needs access to it)
	go tool -modfile=tools/go.mod govulncheck ./...

.PHONY: bench
bench: setup build ## print the figures of docs/measurements.md
	go run ./bench/synth
	go run ./bench/agent
	go run ./bench/gateway
	go run ./bench/restart
	go run ./bench/followers
	go run ./bench/history -delay 0
	go run ./bench/up
	go run ./bench/image

.PHONY: setup
setup: node_modules/.installed .venv/.installed

# npm may hold back install scripts; these packages put their programs in place with one.
node_modules/.installed: package.json package-lock.json
	npm ci --no-fund --no-audit --loglevel=error
	@node_modules/.bin/node --version >/dev/null || npm rebuild node
	@node_modules/.bin/claude --version >/dev/null || npm rebuild @anthropic-ai/claude-code
	@touch $@

.venv/.installed: emulator/requirements.txt
	@$(PYTHON) -c 'import sys, venv, ensurepip; assert sys.version_info >= (3, 10)' 2>/dev/null || { \
		echo "needs Python 3.10 or later with venv (on Debian: apt-get install python3-venv; another one: make PYTHON=python3.12)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --requirement emulator/requirements.txt
	@touch $@

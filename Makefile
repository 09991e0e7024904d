# What there is to do here. `make` or `make help` lists it.
SHELL   := /bin/bash
# Of a tree with changes, but for what benchmarks and pens write, it ends in -dirty.
VERSION := $(shell git describe --tags --always 2>/dev/null || echo devel)$(shell git diff --quiet HEAD -- . ':!bench/results' ':!docs' 2>/dev/null; test $$? = 1 && echo -dirty)
TOOL    := go tool -modfile=tools/go.mod
# Name servers are in sbin, which not everybody's PATH has.
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: help build announce run demo test replay race lint fmt screenshots fuzz bench bench-warm bench-cold bench-encrypted bench-dnstap bench-tap bench-attack bench-fill bench-flood bench-shared pgo soak deb deb-test systemd-test image image-test clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

build: ## compile bin/shirube
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/shirube ./cmd/shirube

announce: ## compile bin/shirube-announce, which announces service addresses over BGP
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/shirube-announce ./cmd/shirube-announce

run: build ## serve on 127.0.0.1 and ::1, port 5353
	bin/shirube serve

demo: build ## serve a small Internet of its own, and say what to ask it
	bin/shirube demo

test: ## install what the tests need, then run vet and all tests
	tools/test

replay: ## play the public scenarios of ../shared/rpl, when they are there: in memory, and to the built server
	set -o pipefail; SHIRUBE_RPL=$(abspath ../shared/rpl/open) go test -tags replay -count=1 -v -run '^Test(Scenarios|ReplayPublic|ListedIsHeldToTheResults)(BlackBox)?$$' ./internal/rpl | grep -v -e '^=== ' -e '--- '

race: ## the tests five times over, for the races that seldom show
	go test -race -count=5 -timeout 30m ./...

lint: ## golangci-lint, as .golangci.yml says
	$(TOOL) golangci-lint run

fmt: ## format the code as lint wants it
	$(TOOL) golangci-lint fmt

screenshots: ## take the pictures of the status page (Chromium) and of the live view (tmux) in docs
	go test -tags screenshots -count=1 -run '^TestScreenshots$$|^TestLiveScreenshot$$' ./internal/admin ./cmd/shirube

fuzz: ## every fuzz target, 20 seconds each
	tools/fuzz 20s

bench: build ## everything beside four other resolvers and, where it is installed, sdns; writes bench/results and docs/performance.md (root, about an hour; BENCH='-within 30m': no longer than that)
	tools/install-bench-deps
	go run ./bench full $(BENCH); failed=$$?; go run ./bench report >/dev/null && exit $$failed # what did not fail is in the manual

bench-warm: build ## warm UDP beside Unbound; writes bench/results (root, about 3 minutes)
	go run ./bench warm

bench-cold: build ## cold names beside Unbound, then with faulty servers; writes bench/results (root, about 3 minutes)
	go run ./bench cold && go run ./bench cold -signed && go run ./bench cold -faults

bench-encrypted: build ## DoT, DoH, DoQ, DoH3 and handshakes beside Unbound, Knot Resolver, BIND and, where it is installed, sdns; writes bench/results (root, about 9 minutes)
	tools/install-bench-deps
	go run ./bench encrypted -rounds 3 -time 3s $(BENCH); failed=$$?; go run ./bench report >/dev/null && exit $$failed

bench-dnstap: build ## what dnstap costs: of all, of one in 100, and to a stopped collector; writes bench/results (root, about 6 minutes)
	go run ./bench dnstap

bench-tap: build ## frames a second that the collector takes; writes bench/results (about 2 minutes)
	go run ./bench tap

bench-attack: build ## cached answers while hostile signed zones are asked for (root, about 2 minutes)
	go run ./bench attack -names 50000

bench-fill: build ## ten million answers in memory (root, 3 GiB, about 13 minutes)
	go run ./bench fill

bench-flood: build ## cached answers during floods of misses, beside Unbound (root, about 4 minutes)
	go run ./bench flood

bench-shared: build ## fleets with a shared cache, and all memcached pulled under load; writes bench/results (root, about 6 minutes)
	tools/install-bench-deps
	go run ./bench shared && go run ./bench report

pgo: build ## sample the server under load, for the compiler (root, about 2 minutes)
	go run ./bench profile && go run ./bench profile -signed && go tool pprof -proto bench/out/*.pprof > cmd/shirube/default.pgo

soak: build ## a minute of load without an error or a leak (root)
	go run ./bench soak

deb: ## Debian packages for amd64 and arm64, in dist
	tools/install-package-deps
	for package in shirube shirube-announce; do for arch in amd64 arm64; do tools/deb $$arch $$package || exit; done; done

deb-test: ## build the packages twice, ask lintian, and install them in a Debian of their own (root, about 5 minutes)
	tools/install-package-deps
	go test -tags deb -count=1 -timeout 30m -v ./deploy/debian

systemd-test: ## boot a Debian with systemd, install the package, restart and upgrade it under load (root, about 4 minutes)
	tools/install-package-deps
	go test -tags systemd -count=1 -timeout 30m -v -run '^TestService$$' ./deploy/systemd

image: ## container image for amd64 and arm64, in dist (root, or in `buildah unshare`)
	tools/install-package-deps
	tools/image

image-test: ## build the image twice, look into it, run it as Kubernetes does, and verify pods of the manifests (root, about two minutes)
	tools/install-test-deps
	tools/install-package-deps
	go test -tags image -count=1 -timeout 30m -v ./deploy/image
	go test -tags image -count=1 -timeout 10m -v -run '^TestPodsOfTheManifestsAreVerified$$' ./deploy/kubernetes

clean: ## remove what was built
	rm -rf bin dist bench/out

# What a newcomer needs:
#   make demo    the whole life of one tenant, with real parts
#   make test    lint, unit tests and end-to-end tests
# Both install what they need (Debian packages) and keep downloads in .cache/.

SHELL := /bin/bash
.DEFAULT_GOAL := build
CACHE := $(CURDIR)/.cache
PREFIX := /usr/local

.PHONY: build
build: ## build bin/mvm, one static binary
	CGO_ENABLED=0 go build -trimpath -o bin/mvm ./cmd/mvm

.PHONY: install
install: build ## install the program, its man pages and completions below PREFIX
	rm -rf bin/man # pages of verbs that are gone
	go run ./scripts/cli-docs --man bin/man
	install -D -m 755 bin/mvm $(DESTDIR)$(PREFIX)/bin/mvm
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 bin/man/*.1
	for at in bash=bash-completion/completions/mvm zsh=zsh/site-functions/_mvm fish=fish/vendor_completions.d/mvm.fish; do \
		bin/mvm completion "$${at%%=*}" | install -D -m 644 /dev/stdin "$(DESTDIR)$(PREFIX)/share/$${at#*=}" || exit 1; \
	done

.PHONY: demo
demo: prepare ## show the whole life of one tenant
	scripts/demo "$(CACHE)"

.PHONY: prepare
prepare: build ## fetch what guests and builders are made of
	scripts/install-packages run
	nix/debian/fetch-packages "$(CACHE)/debian"
	bin/mvm --root "$(CACHE)/prepare" builder fetch --to "$(CACHE)/builder"

.PHONY: test
test: build ## everything that must hold before a change lands
	scripts/install-packages test
	scripts/lint
	scripts/check-nix
	$(MAKE) --no-print-directory prepare
	scripts/test "$(CACHE)"

.PHONY: test-long
test-long: prepare ## kill every act after every step, with real guests
	scripts/install-packages test
	MVM_TEST_CACHE="$(CACHE)" MVM_TEST_REAL_GUEST=1 go test -count=1 -timeout 120m -v -run '^TestKillAnywhere$$' ./tests

.PHONY: bench
bench: bench-tools ## measure mvm beside the bare VMM and libvirt; PARTS=start,io,storm,growth,build chooses
	scripts/netns "$(CACHE)/bench/engine" bin/bench -cache "$(CACHE)" $(if $(PARTS),-parts $(PARTS)) $(BENCH_FLAGS)

.PHONY: bench-packages
bench-packages: prepare ## measure builds, the network and volumes beside the bare tools; BENCH_FLAGS='-benchtime 1x' is shorter
	scripts/install-packages test
	MVM_TEST_CACHE="$(CACHE)" go test -run '^$$' -bench . -benchtime 5x -timeout 60m -p 1 $(BENCH_FLAGS) ./internal/build ./internal/network ./internal/volume ./internal/cli

.PHONY: bench-record
bench-record: bench-tools ## write docs/benchmarks.md, or RECORD=<file>, from a whole run
	scripts/bench-record "$(CACHE)" "$(or $(RECORD),docs/benchmarks.md)" $(BENCH_FLAGS)

.PHONY: bench-compare
bench-compare: bench-tools ## measure starts of this version and of BASE=<ref> in turn
	scripts/bench-compare "$(CACHE)" "$(BASE)" $(BENCH_FLAGS)

.PHONY: bench-tools
bench-tools: prepare
	scripts/install-packages bench
	go build -o bin/bench ./scripts/bench

.PHONY: lint
lint: ## formatting, vet, staticcheck, shellcheck, layer rules
	scripts/lint

.PHONY: check-nix
check-nix: ## check the NixOS flake; with NIXPKGS=<folder> also evaluate it
	scripts/check-nix

.PHONY: docs
docs: ## write docs/cli.md, docs/json.md and the man pages in bin/man from the commands
	go run ./scripts/cli-docs docs/cli.md bin/man

.PHONY: clean
clean: ## remove what was built, not what was downloaded
	rm -rf bin

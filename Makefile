# What a newcomer needs:
#   make demo    the whole life of one tenant, with real parts
#   make test    lint, unit tests and end-to-end tests
# Both install what they need (Debian packages) and keep downloads in .cache/.

SHELL := /bin/bash
.DEFAULT_GOAL := build
CACHE := $(CURDIR)/.cache
PREFIX := /usr/local
AT = $(DESTDIR)$(PREFIX)
OUT := bin

.PHONY: build
build: ## build bin/mvm, one static binary
	CGO_ENABLED=0 go build -trimpath -o $(OUT)/mvm ./cmd/mvm

# With what the install of every system has: a Mac's has neither -D nor -t.
.PHONY: install
install: build ## install the program, its man pages and completions below PREFIX
	install -d "$(AT)/bin" $(addprefix "$(AT)/share"/,bash-completion/completions zsh/site-functions fish/vendor_completions.d)
	install -m 755 $(OUT)/mvm "$(AT)/bin/mvm"
	for at in bash=bash-completion/completions/mvm zsh=zsh/site-functions/_mvm fish=fish/vendor_completions.d/mvm.fish; do \
		GOOS= GOARCH= go run ./cmd/mvm completion "$${at%%=*}" >$(OUT)/completion && \
		install -m 644 $(OUT)/completion "$(AT)/share/$${at#*=}" || exit 1; \
	done

ifeq ($(shell go env GOOS),darwin)
# The Linux builds come along into the Lima VM. Man pages are written by Linux code.
LINUX := $(OUT)/mvm-linux-amd64 $(OUT)/mvm-linux-arm64
.PHONY: $(LINUX)
$(LINUX): $(OUT)/mvm-linux-%:
	CGO_ENABLED=0 GOOS=linux GOARCH=$* go build -trimpath -o $@ ./cmd/mvm
build: $(LINUX)
.PHONY: install-linux
install-linux: $(LINUX)
	install -d "$(AT)/libexec/mvm"
	install -m 755 $(LINUX) "$(AT)/libexec/mvm"
install: install-linux
else
.PHONY: install-man
install-man:
	rm -rf $(OUT)/man # pages of verbs that are gone
	go run ./scripts/cli-docs --man $(OUT)/man
	install -d "$(AT)/share/man/man1"
	install -m 644 $(OUT)/man/*.1 "$(AT)/share/man/man1"
install: install-man
endif

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

# What can be made here; `make` alone prints the list.
#
# Everything is Go: the targets only install what Go cannot bring along
# (scripts/prerequisites), and call it.

# Flags of every build: static, and the same bytes wherever it is built.
export CGO_ENABLED = 0
# Commit and state of the tree go into the binary where git can tell them.
VCS := $(shell git rev-parse --verify -q HEAD >/dev/null 2>&1 && echo true || echo false)
BUILD = go build -trimpath -buildvcs=$(VCS) -ldflags='-s -w'

FUZZTIME ?= 60s
# The machine of `make demo` and `make compare`, for the programs below to see.
export KERNEL MEM CPUS CRASHKERNEL SV V DEBIAN_MIRROR
# A makedumpfile for `make bench` that is not Debian's.
export MAKEDUMPFILE MAKEDUMPFILE_SRC
# Where they leave what a person may want to look at.
export OUT ?= $(CURDIR)/out

# Two machines at a time; RUN=TestMatrix/trixie/sv57 runs only what matches.
E2E = go test -tags e2e -count=1 -p 1 -parallel 2 $(if $(RUN),-v -run '$(RUN)')

# The architecture of packages, as Go names it; this machine's if it is empty.
ARCH ?=
# How many crashes make soak makes.
N ?= 50
# Of the damage of make mutate.
SEED ?= 1

.PHONY: help demo test test-full unit e2e page system soak peers kernels lint fuzz compare verify-with-crash bench mutate measure build deb rpm deb-lint deps clean

help: ## print this list
	@awk -F ':[^#]*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  make demo KERNEL=trixie|sid|built-trixie|built-sid MEM=2048 CPUS=2 CRASHKERNEL=144M SV=39|48|57 V=1'
	@echo '                  change its machine; V=1 shows both consoles'
	@echo '  make bench BENCH="-parts speed -cores 2G -runs 3" picks, BENCH=-write writes docs/performance.md,'
	@echo '                  MAKEDUMPFILE_SRC=FOLDER is the source of another makedumpfile than Debian'\''s'
	@echo '  make verify-with-crash VERIFY="-machines trixie -fresh" picks and crashes anew, VERIFY=-write writes docs/verify.md'
	@echo '  make measure MEASURE="-rows xfs/sid/packed" picks, MEASURE=-write writes docs/reserve.md'

demo: deps ## crash a real Debian riscv64 kernel and save its memory; start here
	@go run ./e2e/demo

test: peers unit e2e ## all unit tests, and real kernels crashed in QEMU (half an hour)

test-full: kernels ## all of it: every cell, form and reader (hours; make kernels once)
	@scripts/prerequisites system
	PANICROOM_FULL=1 go test -timeout 2h ./...
	PANICROOM_FULL=1 $(E2E) -timeout 6h ./e2e/...

unit: ## unit tests only; they run anywhere
	go test ./...

e2e: peers ## real kernels only; RUN=TestMatrix/trixie/sv57 picks, V=1 shows the consoles
	$(E2E) -timeout 60m ./e2e/...

system: deps ## the service on a real Debian root in QEMU: install, setup, crash, update (an hour; once as root)
	@scripts/prerequisites system
	PANICROOM_SYSTEM=1 $(E2E) -timeout 3h -v -run '^TestSystem' ./e2e/

soak: deps ## N crashes in a row on one machine, without a person (50 take an hour)
	@scripts/prerequisites system
	PANICROOM_SYSTEM=1 N=$(N) $(E2E) -timeout 0 -v -run 'TestSoak$$' ./e2e/

# What compresses kernels, and unpacks what we compress; shells; a browser.
peers: deps
	@scripts/prerequisites forms
	@scripts/prerequisites page

page: ## look at the HTML report in a browser, on a desk, a phone and paper: pictures in out/e2e/page
	@scripts/prerequisites page
	$(E2E) ./e2e/page

kernels: deps ## build two kernels that Debian does not have, from its source (an hour; cached)
	@scripts/prerequisites kernels
	@go run ./e2e/lab/cmd/kernels

lint: ## gofmt, go vet (Linux and Mac), go mod tidy, staticcheck
	@scripts/lint

fuzz: ## every fuzz target for FUZZTIME each (60s)
	@FUZZTIME=$(FUZZTIME) scripts/fuzz

compare: deps ## the same crash with the stock tools, side by side
	@go run ./e2e/compare

verify-with-crash: deps ## what panicroom and crash say of the same dumps, fact by fact (fetches 2 GB; half an hour)
	@go run ./e2e/verify $(VERIFY)

bench: deps ## speed, size and memory beside makedumpfile, as ratios (an hour or two on a quiet machine)
	@scripts/prerequisites bench
	@go run ./e2e/bench $(BENCH)

mutate: ## N damaged copies of DUMP are asked everything: no panic, nothing slow or large
	@test -n '$(DUMP)' || { echo 'make mutate DUMP=FILE [N=10000] [SEED=1] [MUTATE="-first 17 -jobs 1"]' >&2; exit 1; }
	@go run ./e2e/mutate/cmd/mutate -dump '$(DUMP)' -n $(if $(filter command line environment,$(origin N)),$(N),10000) -seed $(SEED) $(MUTATE)

measure: deps ## the smallest crashkernel= for each kind of target, by bisection (two hours)
	@scripts/prerequisites measure
	@go run ./e2e/measure $(MEASURE)

build: ## bin/panicroom for this machine and bin/panicroom-riscv64
	$(BUILD) -o bin/panicroom ./cmd/panicroom
	GOOS=linux GOARCH=riscv64 $(BUILD) -o bin/panicroom-riscv64 ./cmd/panicroom

deb: ## a Debian package in out/; ARCH=riscv64 is for another machine
	@scripts/package deb $(ARCH)

rpm: ## an RPM package in out/
	@scripts/package rpm $(ARCH)

deb-lint: ## what lintian says of the Debian package
	@scripts/prerequisites lintian
	@rm -f $(OUT)/panicroom_*.deb
	@scripts/package deb $(ARCH)
	lintian --fail-on error,warning --profile debian --tag-display-limit 0 $(OUT)/panicroom_*.deb

deps: ## install with apt what is missing: QEMU, e2fsprogs, ...
	@scripts/prerequisites

clean: ## remove what was built (the cache of kernels stays in ~/.cache/panicroom)
	rm -rf bin out

# SPDX-License-Identifier: MIT
# The front door. Each everyday task is one target; each target only forwards.

BUILD ?= build
JOBS ?= $(shell nproc)
CMAKE_BUILD = cmake --build $(BUILD) --parallel $(JOBS)

.PHONY: help deps deps-test deps-reference deps-vm deps-lint deps-nano build demo test vm-test kmod kmod-dev \
	vm-test-stock vm-test-debug vm-test-arm64 bench bench-publish check-asan check-tsan fuzz-smoke deps-fuzz abi-check lint fmt nano install clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

deps: ## install what building and running needs (Debian 12 packages)
	@packaging/install-deps.sh build

deps-test:
	@packaging/install-deps.sh build test

# What some tests compare with; without it they skip.
deps-reference:
	@packaging/install-deps.sh reference

deps-vm:
	@packaging/install-deps.sh build test vm

deps-lint:
	@packaging/install-deps.sh build test vm lint

deps-fuzz:
	@packaging/install-deps.sh build fuzz

deps-nano:
	@packaging/install-deps.sh nano

build: deps ## build everything into build/
	@cmake --preset default -DM4_TESTS=OFF >/dev/null
	@$(CMAKE_BUILD)

demo: build ## a story from the default image, through every layer but the kernel's
	@packaging/demo.sh $(BUILD)

test: deps-vm ## build, then run every test that takes seconds, and m4.ko in one small guest
	@cmake --preset default -DM4_TESTS=ON >/dev/null
	@$(CMAKE_BUILD)
	@tests/run.sh $(BUILD)

vm-test: deps-vm ## the kernel module and the whole system in Debian guests (QEMU)
	@cmake --preset default >/dev/null
	@$(CMAKE_BUILD)
	@tests/vm/run.sh $(BUILD)

vm-test-stock: deps-vm ## the kernel module alone, in one small guest
	@tests/vm/run.sh $(BUILD) --kind stock

vm-test-debug: deps-vm ## the same under KASAN, lockdep, kmemleak and fault injection
	@packaging/install-deps.sh vm-debug
	@tests/vm/run.sh $(BUILD) --kind debug-6.1

vm-test-arm64: deps-vm ## the same, cross-built, on an emulated arm64
	@packaging/install-deps.sh vm-arm64
	@tests/vm/run.sh $(BUILD) --kind arm64-6.1

kmod: deps-vm ## build m4.ko against the newest installed Debian headers
	@$(MAKE) -C kmod

# The key never leaves build/, and is made once: images signed by it stay good.
DEV_KEY = $(abspath $(BUILD))/dev-key
kmod-dev: deps-vm ## m4.ko that trusts a development key made on the spot
	@cmake --preset default >/dev/null
	@$(CMAKE_BUILD) --target m4fw
	@[ -s $(DEV_KEY)/m4.crt ] || $(BUILD)/bin/m4fw keygen --out $(DEV_KEY)
	@$(MAKE) -C kmod M4_DEV_CERT=$(DEV_KEY)/m4.crt

check-asan: deps-test ## the tests under AddressSanitizer and UBSan
	@cmake --preset asan >/dev/null && cmake --build build-asan --parallel $(JOBS)
	@tests/run.sh build-asan

check-tsan: deps-test ## the tests under ThreadSanitizer
	@cmake --preset tsan >/dev/null && cmake --build build-tsan --parallel $(JOBS)
	@tests/run.sh build-tsan unit

fuzz-smoke: deps-fuzz ## a million hostile manifests, media, files and requests under libFuzzer, ASan and UBSan
	@JOBS=$(JOBS) tests/fuzz/smoke.sh build-fuzz $(FUZZ_RUNS)

bench: deps-test ## m4d against llama.cpp on the same weights, in turns (10 to 25 minutes)
	@cmake --preset default -DM4_TESTS=ON >/dev/null
	@$(CMAKE_BUILD) --target m4d m4fw m4_bench bench_step
	@tests/bench/bench.sh $(BUILD)

bench-publish: ## the last whole result of make bench into README.md and docs/bench
	@python3 tests/bench/run.py --build $(BUILD) --publish

abi-check: deps-test ## exported symbols and the installed package of libm4client
	@cmake --preset default -DM4_TESTS=ON >/dev/null
	@$(CMAKE_BUILD)
	@tests/run.sh $(BUILD) abi

lint: deps-lint ## format, static analysis, kernel style, units, manuals
	@cmake --preset default -DM4_TESTS=ON >/dev/null
	@$(CMAKE_BUILD)
	@packaging/lint.sh $(BUILD)

fmt: deps-lint ## format the C++ in place
	@packaging/lint.sh --fix

nano: build deps-nano ## train the default model again (about half an hour) and pack it
	@firmware/nano/build.sh

install: build ## install under DESTDIR and PREFIX
	@DESTDIR=$(DESTDIR) cmake --install $(BUILD) $(if $(PREFIX),--prefix $(PREFIX))

clean: ## remove what was built
	@rm -rf build build-asan build-tsan build-fuzz
	@$(MAKE) -s -C kmod clean

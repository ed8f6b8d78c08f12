# SPDX-License-Identifier: Apache-2.0
#
# Every target does its own set-up (a virtual environment in .venv, the builds) and starts at once the second time.
# Needed: git, python3 >= 3.11 with its headers and venv, a C compiler, make.

PYTHON ?= python3
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
PY := $(VENV)/bin/python
# The environment is made again when what it is made from changes, not when a file is merely touched.
DEPS := $(VENV)/.deps-$(shell cat pyproject.toml | sha256sum | cut -c1-16)
TEST_LIB := $(CURDIR)/build/test-lib
# The test configuration is a second copy of the package; -P keeps the source tree out of the way of it.
TEST_ENV := PYTHONPATH=$(TEST_LIB) PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 IOF_SHARED="$(if $(SHARED),$(abspath $(SHARED)))"
PYTEST := $(TEST_ENV) $(PY) -m pytest
ARGS ?=

.PHONY: help venv build test-build test test-freethreaded test-vm differential bench benchmark benchmark-compare benchmark-c budgets budgets-update peers golden qtest conformance \
	fuzz fuzz-walk test-arm64 nightly lint sdist-check clean FORCE

help:
	@echo 'make bench         the main job: map, unmap and translate, measured; leaves bench.json and report.html'
	@echo 'make test          the test configuration and the whole suite, about 8 minutes on two cores (ARGS="-k name" chooses)'
	@echo
	@echo 'make build         the package in place, with the command iommufd-fast in .venv/bin'
	@echo 'make benchmark     benchmarks/ in pytest-benchmark'
	@echo 'make benchmark-compare   the same, compared with the last run that was kept'
	@echo 'make benchmark-c   benchmarks/c, plain C'
	@echo 'make peers PEERS=DIR KERNEL=PATH   ours beside the peers in one run, and which goals are met (DIR: the kernel peer;'
	@echo '                   PATH: a kernel to run in QEMU, for the kernel provider; either may be left out)'
	@echo 'make budgets       instructions of the hottest paths against their budgets (valgrind)'
	@echo 'make golden GOLDEN=DIR   compare page tables with a directory of golden tables'
	@echo 'make qtest         QEMU'"'"'s own IOMMU models over our page tables (QEMU=FILE or DIR; without: what is installed)'
	@echo 'make conformance LINUX=DIR   Linux'"'"'s own iommufd selftests over the preload library (USERNS=0 or 1: in a user namespace)'
	@echo 'make test-vm KERNEL=PATH         tests on that kernel, in QEMU (REQUIRE=1: fails where there is no QEMU)'
	@echo 'make differential KERNEL=PATH    the same ioctls on that kernel and on the engine, compared (SEED=N STEPS=M REQUIRE=1)'
	@echo 'make fuzz SECONDS=N      ioctls under coverage guidance (CALLS=N instead: so many calls)'
	@echo 'make fuzz-walk FORMAT=F SECONDS=N   walks over garbage, likewise; the formats are those of docs/formats.md'
	@echo 'make test-freethreaded PYTHON_FT=PATH   the tests that threads matter to, on a Python without a GIL (docs/threads.md)'
	@echo 'make test-arm64    the C tests for 64-bit ARM, under emulation'
	@echo 'make nightly       what is too slow for make test'
	@echo 'make lint          ruff and mypy'
	@echo 'make sdist-check   source distribution, installed into an empty environment and used'
	@echo 'make clean         remove everything that was built (not .venv)'

venv: $(DEPS)

$(DEPS): | $(VENV)/bin/pip
	@echo '== packages for .venv'
	@$(PY) -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb")); x = p["project"]["optional-dependencies"]; \
		need = p["build-system"]["requires"] + p["project"]["dependencies"] + sum(x.values(), []); \
		print(*sorted({n for n in need if not n.startswith("iommufd_fast")}), sep="\n")' > $(VENV)/requirements.txt
	@$(PY) -m pip install -q --disable-pip-version-check -r $(VENV)/requirements.txt
	@rm -f $(VENV)/.deps-* $(VENV)/.editable
	@touch $@

$(VENV)/bin/pip:
	@command -v $(PYTHON) > /dev/null || { echo 'python3 was not found; install Python 3.11 or newer'; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$$($(PYTHON) -V) is too old: 3.11 or newer is needed (make PYTHON=/path/to/python3.12 ...)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || \
		{ echo "this Python cannot make virtual environments (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || \
		{ echo "Python.h is missing (Debian, Ubuntu: apt install python3-dev)"; exit 1; }
	@command -v $(CC) > /dev/null || { echo 'no C compiler: $(CC) was not found (Debian, Ubuntu: apt install gcc libc6-dev)'; exit 1; }
	@echo '== virtual environment .venv'
	@$(PYTHON) -m venv $(VENV)

# pip makes the entry points once; the files are built in place by setup.py, which knows what is up to date.
build: $(VENV)/.editable
	@$(PY) setup.py -q build_ext --inplace

$(VENV)/.editable: $(DEPS) | venv
	@$(PY) -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

test-build: $(DEPS)
	@IOF_TEST_BUILD=1 $(PY) setup.py -q build --build-lib $(TEST_LIB)

test: test-build
	@$(PYTEST) $(ARGS)

# On a Python without a GIL (docs/threads.md: how to get one), in an environment of its own.
FT_ENV := $(CURDIR)/build/ft-venv
FT_LIB := $(CURDIR)/build/ft-test-lib
FT_TESTS := $(addprefix tests/test_,threads.py control_close.py control_mapping.py ioas_model.py dma.py memory_arena.py memory_alloc.py \
	holding.py addressing.py reshaping.py contract_access.py contract_devices.py contract_dirty.py contract_faults.py contract_files.py \
	contract_guests.py contract_viommu.py kernel_control.py kernel_mmio.py iova_space.py pages.py pagetable.py fork.py)
test-freethreaded:
ifeq ($(PYTHON_FT),)
	@echo 'skipped: no Python without a GIL was named (make test-freethreaded PYTHON_FT=/path/to/python3.13t; docs/threads.md)'
else
	@$(PYTHON_FT) -c 'import sysconfig, sys; sys.exit(not sysconfig.get_config_var("Py_GIL_DISABLED"))' || \
		{ echo '$(PYTHON_FT) is not there, or has a GIL'; exit 1; }
	@test -x $(FT_ENV)/bin/pytest || { $(PYTHON_FT) -m venv $(FT_ENV) && $(FT_ENV)/bin/python -m pip install -q --disable-pip-version-check \
		--prefer-binary --only-binary=numpy 'click>=8.1' 'rich>=13' 'setuptools>=77' 'cython>=3.1' 'numpy>=2.1' 'pytest>=8' 'pytest-timeout>=2.3' 'hypothesis>=6.100,<6.160'; }
	@IOF_TEST_BUILD=1 $(FT_ENV)/bin/python setup.py -q build --build-lib $(FT_LIB)
	@PYTHONPATH=$(FT_LIB) PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 PYTHON_GIL=0 $(FT_ENV)/bin/python -m pytest -p no:cacheprovider $(or $(ARGS),$(FT_TESTS))
endif

test-vm: test-build
	@$(TEST_ENV) $(PY) tests/vm $(if $(REQUIRE),--require) "$(KERNEL)" $(if $(ARGS),-- $(ARGS))

# The sequences are the same for the same seed; without one there is a new one, which is printed.
DIFFERENTIAL := $(CURDIR)/build/differential
differential: STEPS ?= 20000
differential: test-build
	@$(MAKE) -s -C csrc -j$(shell nproc) OUT=$(DIFFERENTIAL)/core V=1 preload
	@$(TEST_ENV) PYTHONPATH=$(TEST_LIB):$(CURDIR)/tests $(PY) -m differential "$(KERNEL)" --library $(DIFFERENTIAL)/core/libiommufd_fast_preload.so --out $(DIFFERENTIAL) \
		--steps $(STEPS) $(if $(SEED),--seed $(SEED)) $(if $(REQUIRE),--require) $(ARGS)

bench: build
	@$(PY) -m iommufd_fast bench --quick --json bench.json --html report.html
	@echo 'The report: $(CURDIR)/report.html (the same numbers for programs: bench.json)'

SAVED := --benchmark-only --benchmark-storage=file://$(CURDIR)/.benchmarks --benchmark-columns=min,median,iqr,rounds --benchmark-sort=name
benchmark: build
	@$(PY) -m pytest benchmarks $(SAVED) --benchmark-save=run $(ARGS)

# What is slower by more than half in the fastest round of a benchmark fails; less is noise on a shared machine.
benchmark-compare: build
	@ls .benchmarks/*/*_run.json > /dev/null 2>&1 || { echo 'no run was kept yet: make benchmark keeps one'; exit 1; }
	@$(PY) -m pytest benchmarks $(SAVED) --benchmark-compare --benchmark-compare-fail=min:50% $(ARGS)

benchmark-c:
	@$(MAKE) -C csrc -j$(shell nproc) OUT=$(CURDIR)/build/benchmark-c FROM=$(CURDIR)/benchmarks/c programs preload
	@for program in benchmarks/c/bench_*.c; do \
		name=$$(basename $$program .c); echo "== $$name"; build/benchmark-c/bin/$$name $(ARGS) || exit 1; done

peers: build
	@$(MAKE) -s -C csrc -j$(shell nproc) OUT=$(CURDIR)/build/benchmark-c FROM=$(CURDIR)/benchmarks/c programs
	@$(PY) benchmarks/peers build/benchmark-c/bin $(if $(PEERS),--peers "$(PEERS)") \
		$(if $(KERNEL),--kernel "$(KERNEL)") $(if $(PAGE),--page docs/performance.md --curves docs/img/growth.svg --ship iommufd_fast/data/peers.json) $(ARGS)

BUDGETS := $(CURDIR)/build/budgets
budgets budgets-update:
	@$(MAKE) -s -C csrc -j$(shell nproc) OUT=$(BUDGETS) FROM=$(CURDIR)/benchmarks/budgets programs
	@$(PYTHON) benchmarks/budgets $(BUDGETS)/bin/paths $(if $(filter budgets-update,$@),--update "$(REASON)")

golden: build
	@test -d "$(GOLDEN)" || { echo 'say where the golden tables are: make golden GOLDEN=DIR'; exit 1; }
	@$(PY) tests/golden "$(GOLDEN)"

qtest: build
	@$(if $(QEMU),QEMU="$(QEMU)") $(PY) tests/qtest $(ARGS)

conformance:
	@test -d "$(LINUX)" || { echo 'say where a Linux tree is: make conformance LINUX=DIR'; exit 1; }
	@$(MAKE) -s -C csrc -j$(shell nproc) OUT=$(CURDIR)/build/conformance/core V=1 preload
	@$(PYTHON) tests/conformance "$(LINUX)" --library build/conformance/core/libiommufd_fast_preload.so $(if $(USERNS),--userns=$(USERNS))

# With clang and its libFuzzer when they are here; else with gcc and the driver inside the program.
FUZZ := $(CURDIR)/build/fuzz
FUZZ_CLANG := printf 'int LLVMFuzzerTestOneInput(const char *p, long n); int LLVMFuzzerTestOneInput(const char *p, long n) { return !p && n; }\n' | \
	clang -x c -fsanitize=fuzzer,address,undefined -o /dev/null - 2> /dev/null
FUZZ_ENV := ASAN_OPTIONS=allow_user_segv_handler=1
define fuzz-run # program, environment, corpus
	if [[ -z "$(CALLS)" ]] && command -v clang > /dev/null && $(FUZZ_CLANG); then \
		$(MAKE) -C csrc -j$(shell nproc) CC=clang OUT=$(FUZZ)-clang SANITIZE=address,undefined DEBUG=1 FROM=$(CURDIR)/tests/c \
			CFLAGS='-O1 -g -fsanitize=fuzzer-no-link -DIOF_LIBFUZZER' LDFLAGS=-fsanitize=fuzzer $(FUZZ)-clang/bin/$(1) && \
		mkdir -p $(FUZZ)-clang/found && $(FUZZ_ENV) $(2) $(FUZZ)-clang/bin/$(1) -handle_segv=0 -handle_bus=0 \
			-max_total_time=$(SECONDS) -print_final_stats=1 $(ARGS) $(if $(3),$(FUZZ)-clang/found $(3)); \
	else \
		$(MAKE) -C csrc -j$(shell nproc) OUT=$(FUZZ) SANITIZE=address,undefined DEBUG=1 FROM=$(CURDIR)/tests/c \
			CFLAGS='-O1 -g -fsanitize-coverage=trace-pc' $(FUZZ)/bin/$(1) && \
		cd $(FUZZ) && $(FUZZ_ENV) $(2) bin/$(1) $(if $(CALLS),-calls=$(CALLS),-seconds=$(SECONDS)) \
			$(if $(3),-corpus=$(3)) $(ARGS); \
	fi
endef

fuzz fuzz-walk: SECONDS ?= 60
fuzz:
	@$(call fuzz-run,fuzz_ioctl,,)

fuzz-walk:
	@test -n "$(FORMAT)" || { echo 'say which format: make fuzz-walk FORMAT=vtdss'; exit 1; }
	@$(call fuzz-run,fuzz_walk,IOF_FUZZ_FORMAT=$(FORMAT),$(CURDIR)/tests/c/corpus/walk)

test-arm64:
	@$(PYTHON) tests/arm64

nightly: test-build
	@IOF_NIGHTLY=1 $(PYTEST) --timeout=3600 $(ARGS)
	@$(MAKE) fuzz CALLS=100000000
	@$(MAKE) differential STEPS=1000000
	@for format in vtdss amdv1 mock x86_64 riscv64 riscv64_x4 arm_s1 arm_s2; do \
		echo "== $$format" && $(MAKE) fuzz-walk FORMAT=$$format SECONDS=600 || exit 1; done

lint: $(DEPS)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy

sdist-check: $(DEPS)
	@rm -rf build/sdist && mkdir -p build/sdist
	@$(PY) setup.py -q sdist --dist-dir build/sdist > build/sdist/log 2>&1 || { cat build/sdist/log; exit 1; }
	@$(PYTHON) -m venv build/sdist/venv
	@echo '== pip install of the source distribution into an empty environment'
	@build/sdist/venv/bin/pip install -q --disable-pip-version-check build/sdist/*.tar.gz
	@cp tests/smoke.py build/sdist/ && cd build/sdist && venv/bin/python -I smoke.py

clean:
	rm -rf build dist *.egg-info iommufd_fast/include iommufd_fast/*.so iommufd_fast/_core/*.so bench.json report.html peers.json peers.svg
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
	rm -f $(VENV)/.editable

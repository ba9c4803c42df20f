# Needs Python 3.11 or later, make and git. Each target makes the virtual environment it uses.

PYTHON ?= python3
TYPED := rpcproto examples tests benchmarks proto docs fuzz
BIN := .venv/dev/bin
HOURS ?= 8
SECONDS ?= 60

.PHONY: demo test deep night check bench fuzz proto format clean

demo: .venv/cli/.installed
	.venv/cli/bin/rpcproto demo

test: .venv/dev/.installed
	$(BIN)/pytest -q -n auto --dist loadfile $(PYTEST_ARGS)

deep: .venv/dev/.installed
	RPCPROTO_PROFILE=deep $(BIN)/pytest -q -n auto --dist worksteal tests/test_simulation.py

night: .venv/dev/.installed
	$(BIN)/python tests/simulation.py --hours $(HOURS)

check: .venv/dev/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict $(TYPED)
# --verifytypes looks into the Python that comes first on the path, whatever else it is told.
	PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes rpcproto --ignoreexternal
	$(MAKE) test PYTEST_ARGS="--cov --cov-fail-under=100"
	$(BIN)/pytest -q -m environments

bench: .venv/dev/.installed
	$(BIN)/python -m benchmarks

fuzz: .venv/fuzz/.installed
	.venv/fuzz/bin/python -m fuzz $(SECONDS)

proto: .venv/dev/.installed
	$(BIN)/python proto/generate.py

format: .venv/dev/.installed
	$(BIN)/ruff check -q --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment has the name of its extra.
.venv/%/.installed: pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install -q --disable-pip-version-check -e '.[$*]'
	touch $@

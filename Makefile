# Needs Python 3.11 or later, make and git. Each target makes the virtual environment it uses.

PYTHON ?= python3
TYPED := rpcproto examples tests benchmarks proto docs fuzz
BIN := .venv/dev/bin
INTEROP := "(interop or interop_browser or interop_server) and not interop_load"
HOURS ?= 8
SECONDS ?= 60
PROVING := tests/core/test_laws.py tests/proof/test_search.py $(wildcard tests/proof/test_simulation*.py tests/proof/test_stateful_*.py)

LIVEKIT_GENERATIONS := 1.1.8 1.1.13 1.2.1
LIVEKIT_SERVER := github.com/livekit/livekit-server/cmd/server@v1.13.5
ENVIRONMENTS := .venv/dev/.installed $(LIVEKIT_GENERATIONS:%=.venv/livekit-%/.installed)
GO_CLIENT := $(if $(shell command -v go),.venv/livekit-go/client)

.PHONY: demo test deep night check interop interop-browser interop-page interop-server conformance bench fuzz \
	mutants kit-faults conform-faults mutation docs dist proto format clean

demo: .venv/cli/.installed
	.venv/cli/bin/rpcproto demo

# Else each of the programs that tests start compiles the package anew.
test check: export PYTHONDONTWRITEBYTECODE =

test: .venv/dev/.installed
	$(BIN)/pytest -q -n 4 --dist worksteal $(PYTEST_ARGS)

# What the fast profile has no time for: within half an hour on two cores.
deep: .venv/dev/.installed
	RPCPROTO_PROFILE=deep $(BIN)/pytest -q -n auto --dist worksteal $(PROVING)
	$(MAKE) mutants
	$(MAKE) mutation SAMPLE=200

# As much as a night has room for; HOURS of it are simulation.
night: .venv/dev/.installed
	RPCPROTO_PROFILE=night $(BIN)/pytest -q -n auto --dist worksteal $(filter-out %_simulation.py,$(PROVING))
	$(BIN)/python tests/proof simulation --hours $(HOURS)
	$(MAKE) mutants ALL=1
	$(MAKE) mutation
	$(MAKE) fuzz SECONDS=1800

check: $(ENVIRONMENTS)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict $(TYPED)
# --verifytypes looks into the Python that comes first on the path, whatever else it is told.
	PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes rpcproto --ignoreexternal
	$(MAKE) test PYTEST_ARGS="--cov --cov-fail-under=100"
	RPCPROTO_PROFILE=deep $(BIN)/pytest -q -n auto --dist worksteal tests/proof/test_search.py
	$(MAKE) docs
	$(BIN)/pytest -q -m environments
# LiveKit's own clients lose a call now and then: what fails is tried once more, by itself.
	$(BIN)/pytest -q -m $(INTEROP) -n 3 tests || $(BIN)/pytest -q -m $(INTEROP) --last-failed tests

interop: $(ENVIRONMENTS) $(GO_CLIENT)
	$(BIN)/pytest -q -m interop -n 3 --matrix docs/interop.md tests/interop
	$(BIN)/pytest -q -m "interop_load and not interop_server" --matrix docs/interop.md tests/interop

# Needs chromium on the PATH, and npm, which brings LiveKit's JavaScript client.
interop-browser: .venv/dev/.installed
	@! command -v npm >/dev/null || $(MAKE) .venv/livekit-client/.installed
	$(BIN)/pytest -q -m interop_browser -n 2 --matrix docs/interop.md \
		--screenshot $(CURDIR)/docs/interop-browser.png tests/interop

# A page to open, with a Python participant in the same room.
interop-page: .venv/dev/.installed .venv/livekit-client/.installed
	cd tests && ../$(BIN)/python -m interop

# Against LIVEKIT_URL (with LIVEKIT_API_KEY and LIVEKIT_API_SECRET), or else the livekit-server on the
# PATH, or else one that Go installs.
interop-server: $(ENVIRONMENTS)
	@test -n "$$LIVEKIT_URL" || command -v livekit-server || ! command -v go \
		|| $(MAKE) .venv/livekit-server/server
	$(BIN)/pytest -q -m "interop_server and not interop_load" -n 3 --matrix docs/interop.md tests/interop
	$(BIN)/pytest -q -m "interop_server and interop_load" --matrix docs/interop.md tests/interop

# The conformance suite with each testee that the machine can run; writes docs/conformance.md and the
# pages beside it. Twice, with the verdicts compared: make conformance CHECK=1
conformance: $(ENVIRONMENTS) .venv/livekit-client/.installed .venv/livekit-rtc-node/.installed
	@! command -v go >/dev/null || $(MAKE) .venv/livekit-go/testee
	@! command -v cargo >/dev/null || $(MAKE) .venv/livekit-rust/release/testee
	$(BIN)/python docs/write_conformance.py $(if $(CHECK),--check)
	SCREENSHOTS=$(CURDIR)/docs $(BIN)/pytest -q -m interop_browser tests/tools/test_conformance_testees.py

# All figures, or: make bench [SECTIONS="echo hosts"] [JSON=FILE] [AGAINST=FILE or another checkout] [ROUNDS=3]
bench: .venv/dev/.installed
	$(BIN)/python -m benchmarks $(SECTIONS) $(JSON:%=--json %) $(AGAINST:%=--against %) $(ROUNDS:%=--rounds %)

fuzz: .venv/fuzz/.installed
	.venv/fuzz/bin/python -m fuzz $(SECONDS)

# Faults put in by hand; those of hosts and transports alone: make mutants HOSTS=1
mutants: .venv/dev/.installed
	$(BIN)/python tests/proof mutants $(if $(ALL),--all) $(if $(HOSTS),--hosts)

# Hosts with one fault each, and the scenario of the host kit that finds it: make kit-faults [ALL=1]
kit-faults: .venv/dev/.installed
	PYTHONPATH=examples $(BIN)/python tests/hosts/kit_faults.py $(if $(ALL),--all)

# Which cases of the conformance suite see which of the faults of the core: make conform-faults
conform-faults: .venv/dev/.installed
	$(BIN)/python tests/proof conform_faults

# All small faults that mutmut knows: make mutation [SAMPLE=200] [SEED=7] [MODULES="caller wire"]
mutation: .venv/dev/.installed
	$(BIN)/python tests/proof mutation $(SAMPLE:%=--sample %) $(SEED:%=--seed %) \
		$(if $(MODULES),--modules $(MODULES))

# The documentation, in build/site; it also works from files.
docs: .venv/docs/.installed
	NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs build --quiet
	@echo build/site/index.html

# The release files, checked; the tests run in the sdist: make dist [PYTEST_ARGS="-k rules"]
dist: .venv/dist/.installed
	.venv/dist/bin/python tests/environments/distributions.py

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

# LiveKit's own packages of old days, each in an environment of its own.
.venv/livekit-%/.installed:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install -q --disable-pip-version-check livekit==$*
	touch $@

.venv/livekit-client/.installed:
	npm install --silent --no-audit --no-fund --prefix $(@D) livekit-client@2.23.0
	touch $@

.venv/livekit-rtc-node/.installed:
	npm install --silent --no-audit --no-fund --prefix $(@D) @livekit/rtc-node@1.1.0
	touch $@

.venv/livekit-go/testee: examples/testees/go/main.go examples/testees/go/go.mod
	cd examples/testees/go && GOTOOLCHAIN=local go build -o $(CURDIR)/$@ .

.venv/livekit-rust/release/testee: examples/testees/rust/src/main.rs examples/testees/rust/Cargo.toml
	cargo build --release --quiet --manifest-path examples/testees/rust/Cargo.toml --target-dir .venv/livekit-rust

# A participant with LiveKit's SDK for Go.
.venv/livekit-go/client: tests/interop/go/main.go tests/interop/go/go.mod
	cd tests/interop/go && GOTOOLCHAIN=local go build -o $(CURDIR)/$@ .

.venv/livekit-server/server:
	GOBIN=$(CURDIR)/$(@D) GOTOOLCHAIN=local go install $(LIVEKIT_SERVER)

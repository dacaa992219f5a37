# All that is needed is make and Python 3.11 or newer: each target makes .venv and installs what it uses.
# It takes the oldest Python: what works there works on a newer one, rather than the other way around.
# `make PYTHON=/path/to/python test` chooses another.

VENV := .venv
BIN := $(VENV)/bin
CORE := tests/conformance tests/lineage tests/soundness tests/story tests/unit
# Random programs against an oracle, and many graphs in many ways, compared with what they are without Musubito.
PROOFS := tests/property tests/langgraph/test_equivalence.py tests/langgraph/test_parents.py
# What depends on libraries and processes more than on the Python: `make real` runs it, once.
ONCE := tests/cluster tests/examples tests/soundness/test_libraries.py tests/story/test_documentation.py
ONCE += tests/story/test_installed_packages.py tests/langgraph/test_installed_packages.py
# What `make proofs`, `make faults` and `make real` run, so that `make test` answers soon.
APART := $(PROOFS) $(ONCE) tests/faults
# What tells of another LangGraph or another Python: what is private there, and what becomes of graphs of each kind.
VERSIONS := $(addprefix tests/langgraph/test_,$(addsuffix .py,compat equivalence functional message_ids policy replays \
  resumed runnable state_keys store streams tool_events trackers unrecordable))
BROWSERS := chromium google-chrome "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
# Prints the first of some Pythons that is new enough and can make an environment. A shim may be there and not run.
first_python = for each in $(2); do \
	  if "$$each" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, $(1)))' >/dev/null 2>&1; then \
	    echo "$$each"; break; \
	  fi; \
	done

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start many hundred processes, and without it each of them compiles Musubito again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
# The environment is shared, so its installations must not run side by side.
.NOTPARALLEL:
.PHONY: help demo quick test test-newest test-oldest proofs real browser faults lint types docs bench bench-gate
.PHONY: bench-ratios soak clean

help:
	@echo 'make demo         an agent, run, replayed and edited: what runs and why, what it costs and what is saved'
	@echo 'make quick        the tests of the core that start no process and no server; TESTS="tests/langgraph" chooses others'
	@echo 'make test         the tests, apart from those of make proofs, make faults, make real and make browser'
	@echo 'make test-newest  those of the core, and some of the adapter, on the newest Python that is installed'
	@echo 'make test-oldest  some of the LangGraph adapter, on the oldest LangGraph that it stands on'
	@echo 'make proofs       random programs against an oracle, and the zoo of graphs against bare ones'
	@echo 'make real         graphs as people run them: examples, clusters, production stores, servers, clients of models'
	@echo 'make browser      the page, as people open it: in Chromium, which apt-get installs if it may'
	@echo 'make faults       processes are killed, servers and disks fail, also among 4,000 operations on each store'
	@echo 'make lint         ruff and import-linter'
	@echo 'make types        mypy'
	@echo 'make docs         the documentation, as HTML in build/docs'
	@echo 'make bench        side by side with other caches; ROWS="small chat" selects'
	@echo 'make bench-gate   compares a few ratios with bench/ratios.json; make bench-ratios writes that file anew'
	@echo 'make soak         breaks the rules one by one and counts the tests that notice, then runs all with many more examples'
	@echo 'make clean        remove everything that these have made'

demo: $(VENV)/installed-demo
	@$(BIN)/python examples/demo.py

quick: $(VENV)/installed-test
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "quick and not soak and not harness" $(or $(TESTS),$(CORE))

# Three for two cores: a fifth of the time a test waits, for processes, servers and times of expiry.
test: $(VENV)/installed-test
	@echo "Testing on $$($(BIN)/python --version)"
	@$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder $(or $(TESTS),$(APART:%=--ignore=%))

test-newest: $(VENV)/made
	@python="$$($(call first_python,13,python3.14 python3.13 python3 /usr/bin/python3))"; \
	if [ -z "$$python" ]; then \
	  echo 'No Python 3.13 or newer was found.'; \
	elif [ "$$("$$python" --version)" = "$$($(BIN)/python --version)" ]; then \
	  echo "$$("$$python" --version) is the newest, and make test runs on it."; \
	else \
	  $(MAKE) --no-print-directory VENV=.venv-newest PYTHON="$$python" \
	    TESTS="$(or $(TESTS),tests/golden $(CORE) $(VERSIONS) $(addprefix --ignore=,$(filter-out %libraries.py,$(ONCE))))" test; \
	fi

test-oldest:
	@$(MAKE) --no-print-directory VENV=.venv-oldest PINS=tests/langgraph/oldest.txt TESTS="$(or $(TESTS),$(VERSIONS))" test

proofs: $(VENV)/installed-test
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal $(PROOFS)

real: $(VENV)/installed-real
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder tests/real $(ONCE)

browser: $(VENV)/installed-browser
	@for each in $(BROWSERS); do command -v "$$each" >/dev/null && exit; done; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	  echo "Neither Chromium nor Chrome was found. Install one (on Debian: sudo apt-get install chromium)." >&2; exit 1; \
	fi; \
	echo 'Installing chromium'; apt-get update --quiet=2; \
	apt-get install --quiet=2 --no-install-recommends chromium fonts-dejavu-core >/dev/null
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile tests/browser

faults: $(VENV)/installed-test
	@$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder tests/faults
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "harness and not soak" tests/faults

lint: $(VENV)/installed-lint
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/lint-imports --no-cache

types: $(VENV)/installed-dev
	@$(BIN)/mypy

docs: $(VENV)/installed-docs
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env -d build/doctrees docs build/docs
	@echo 'The pages begin at build/docs/index.html'

bench: $(VENV)/installed-bench
	@$(BIN)/python -m bench $(ROWS)

bench-gate: $(VENV)/installed-bench
	@$(BIN)/python -m bench.gate

bench-ratios: $(VENV)/installed-bench
	@$(BIN)/python -m bench.gate --write

soak: $(VENV)/installed-test
	@$(BIN)/python -m tests.mutations
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "soak or not soak" --hypothesis-profile=soak

clean:
	@rm -rf $(VENV) .venv-oldest .venv-newest build dist .demo .bench bench/results.json
	@rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip knows dependency groups since 25.1; what a Python brings along is often older.
$(VENV)/made:
	@python="$$($(call first_python,11,$(if $(PYTHON),'$(PYTHON)',python3.11 python3.12 python3.13 python3.14 python3 python)))"; \
	if [ -z "$$python" ]; then \
	  echo 'No Python 3.11 or newer with its venv module was found. Install one (on Debian and Ubuntu:' >&2; \
	  echo 'apt install python3 python3-venv), or name one: make PYTHON=/path/to/python ...' >&2; \
	  exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

# pip tells each package in several lines, or with --quiet nothing for a minute. A dot for each says that it goes on.
# What pip warns of and complains about goes past the pipe; its exit status does not, so it makes the target itself.
$(VENV)/installed-%: pyproject.toml $(PINS) $(VENV)/made
	@rm -f $@; printf "Installing what '$*' needs "
	@{ $(BIN)/python -m pip install --progress-bar off --editable . --group $* $(PINS:%=--constraint %) && touch $@; } | \
	while read -r what which _; do \
	  case "$$what $$which" in \
	    Collecting*) printf .;; \
	    'Installing collected') printf ' unpacking'; \
	  esac; \
	done
	@echo; test -e $@

# Three commands do everything from a bare machine (Python >= 3.11 with venv, and make):
#   make install   the package with its command, .venv/bin/pkpd
#   make compare   the five trials, results under build/compare/
#   make test      the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# what is never imported need not be compiled: half of the time of installing. What is, is kept once
# compiled, whatever the environment says: else each start of Python compiles 3,500 files, for seconds
INSTALL := $(PIP) install --no-compile
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install compare test portable newest bench trust honest fits evidence lint types cards contracts slow long docs wheel release lock clean

install: $(VENV)/run.stamp

compare: $(VENV)/run.stamp
	$(BIN)/pkpd compare --out build/compare $(ARGS)

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m "not slow and not long" -n 2 --dist loadfile --no-loadscope-reorder --durations=60 $(ARGS)

# The quick tests as other processors run them: other instructions, one thread and two; an hour.
# Some of them: make portable ARGS="older -- tests/fitting"
portable: $(VENV)/dev.stamp
	$(BIN)/python .ci/portable.py $(ARGS)

# The tests with the newest releases of everything, in build/newest; not the locked ones.
newest:
	$(PYTHON) .ci/newest.py $(ARGS)

# Engine benchmark; peers that are installed run beside. Results in build/bench.json.
bench: $(VENV)/run.stamp
	$(BIN)/python -m benchmarks.performance $(ARGS)

# Cases that NONMEM, Stan and nlmixr2 have answered, in one table; build/trust/cases.md.
# Every reader is given changed samples, too. Longer fits, and 10,000 samples: make trust ARGS=--full
trust: $(VENV)/run.stamp
	$(BIN)/python -m benchmarks.trust $(ARGS)

# Ill-posed problems and ordinary studies: what fits say of them; resumable, build/honest.
# Some of them: make honest ARGS="--problems 40 --ordinary 0"
honest: $(VENV)/run.stamp
	$(BIN)/python -m benchmarks.honest $(ARGS)

# Fits on published data, reduced length; estimate beside reference in build/fits/summary.csv.
# All of it: make fits ARGS=--full
fits: $(VENV)/run.stamp
	$(BIN)/python fits/run_all.py $(ARGS)

# Learning the leukaemic marrow from published outcomes: a few studies and parameters, resumable;
# all of it: make evidence ARGS=--full
evidence: $(VENV)/run.stamp
	$(BIN)/python fits/evidence/learn.py --out build/evidence $(ARGS)

# What takes seconds, and below what takes minutes for what quick and slow tests hold at a smaller
# size. Only files with such tests are collected. Compiling is most of the time: only long fits compile
# as users do.
TESTS = $(BIN)/python -m pytest -m $@ -n 2 --dist loadfile --no-loadscope-reorder --durations=40
FILES = $$(grep -rl --include='test_*.py' 'mark\.$@' tests | sort)

slow: $(VENV)/dev.stamp
	PKPD_COMPILE=quickly $(TESTS) $(FILES) $(ARGS)

long: $(VENV)/dev.stamp
	@files="$(FILES)"; failed=0; \
	long='^tests/fitting/test_(calibration|fit|optimal_times|other_modes|serial_residuals)\.py'; \
	fits=$$(echo "$$files" | grep -E "$$long"); others=$$(echo "$$files" | grep -vE "$$long"); \
	PKPD_COMPILE=quickly $(TESTS) $$others $(ARGS) || failed=1; \
	$(TESTS) $$fits $(ARGS) || failed=1; \
	exit $$failed

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp
	$(BIN)/pyright

contracts: $(VENV)/dev.stamp
	$(BIN)/lint-imports

cards: $(VENV)/run.stamp
	$(BIN)/pkpd check models benchmarks/schedules benchmarks/designs

# The site, in build/docs: tutorials are executed, warnings and links that lead nowhere are errors.
docs: $(VENV)/docs.stamp
	rm -rf build/docs build/docs-source
	$(BIN)/python -m docs.site.assemble build/docs-source
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -c docs/site -d build/docs-source/.doctrees build/docs-source build/docs
	$(BIN)/python -m docs.site.links build/docs

wheel: $(VENV)/dev.stamp
	$(BIN)/python -m hatchling build -t wheel

# Two builds of the last commit that must be equal, into dist; ARGS="--tag v0.1.0 --install python3.12"
release: $(VENV)/run.stamp
	$(BIN)/python .ci/release.py $(ARGS)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "pkpd needs Python 3.11 or newer; say which with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The package is installed in place, after exactly the locked wheels.
$(VENV)/run.stamp: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing the locked packages into $(VENV) (once)"
	$(INSTALL) --require-hashes --only-binary :all: -r requirements.lock
	$(INSTALL) --no-deps --no-build-isolation -e .
	$(BIN)/python -c "import jax, matplotlib.pyplot, pymc, pkpd.explorer.simulation"
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	$(INSTALL) --require-hashes --only-binary :all: -r requirements-dev.lock
	@touch $@

$(VENV)/docs.stamp: requirements-docs.lock $(VENV)/run.stamp
	$(INSTALL) --require-hashes --only-binary :all: -r requirements-docs.lock
	@touch $@

lock:
	uv pip compile pyproject.toml requirements-build.in --extra explorer --universal --generate-hashes --no-emit-index-url --no-header -o requirements.lock
	uv pip compile pyproject.toml requirements-build.in --extra explorer --extra dev --universal --generate-hashes --no-emit-index-url --no-header -c requirements.lock -o requirements-dev.lock
	uv pip compile pyproject.toml requirements-build.in --extra explorer --extra docs --universal --generate-hashes --no-emit-index-url --no-header -c requirements-dev.lock -o requirements-docs.lock

clean:
	rm -rf build dist .pytest_cache .ruff_cache

# make demo | test | test-fast | test-scripts | test-js | fuzz | lint | setup: each makes .venv or reuses it, and downloads only when setup.cfg has changed
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CACHE := .cache
TIMM_OLDEST := $(shell sed -n "s/^TIMM_OLDEST = '\(.*\)'/\1/p" timm_mobilenext/version.py)
OLDEST := $(CACHE)/timm-$(TIMM_OLDEST)/packages

.PHONY: demo test test-fast test-scripts test-js fuzz lint setup clean

demo: $(VENV)/.demo
	$(BIN)/timm-mobilenext demo --output demo

# all tests on the installed timm, then those of the models on the oldest that is supported; a file to each core, where
# more threads would only wait for each other
test: export OMP_NUM_THREADS ?= 1
test: setup
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile
	PYTHONPATH=$(CURDIR)/$(OLDEST) $(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not tools"

# the developer's loop: what starts no process, trains nothing and exports nothing, on the installed timm
test-fast: export OMP_NUM_THREADS ?= 1
test-fast: setup
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not slow"

# timm's own scripts, which its wheel lacks, on the checkout of timm that TIMM_REPO names
test-scripts: export OMP_NUM_THREADS ?= 1
test-scripts: setup
	$(BIN)/python -m pytest tests/scripts --numprocesses auto --dist loadfile -rs

# what is pushed to the Hub, in transformers.js: needs Node 20 and npm
test-js: export OMP_NUM_THREADS ?= 1
test-js: setup tests/js/node_modules/.done
	$(BIN)/python -m pytest tests/hub/test_onnx.py -rs

# inputs that nobody expects: COUNT says how many of each kind, SEED which ones
fuzz: export OMP_NUM_THREADS ?= 1
fuzz: export COUNT ?= 1000
fuzz: export SEED ?= 0
fuzz: setup
	$(BIN)/python -m pytest tests/fuzz/fuzz_*.py --numprocesses auto --dist load

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

setup: $(VENV)/.test $(OLDEST)/.done
	@timm=$$($(BIN)/python -c "from importlib.metadata import version; print(version('timm'))") && \
		$(MAKE) --no-print-directory $(CACHE)/timm-$$timm/tests

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: setup.cfg pyproject.toml build_hook.py | $(VENV)/bin/python
	@echo "Installing timm-mobilenext, torch and timm into $(VENV), which takes a few minutes"
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.test: setup.cfg pyproject.toml build_hook.py | $(VENV)/bin/python
	@echo "Installing timm-mobilenext, torch, timm and what the tests need into $(VENV), which takes a few minutes"
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@ $(VENV)/.demo

# timm's wheel lacks its tests, its sdist has them
$(CACHE)/timm-%/tests:
	rm -rf $(CACHE)/new && mkdir -p $(CACHE)/new
	$(BIN)/python -m pip download --quiet --no-deps --no-binary :all: --dest $(CACHE)/new "timm==$*"
	tar -xzf $(CACHE)/new/timm-$*.tar.gz -C $(CACHE)/new timm-$*/tests
	rm -rf $(CACHE)/timm-$* && mv $(CACHE)/new/timm-$* $(CACHE)/timm-$* && rm -rf $(CACHE)/new

# the oldest timm beside the installed one: PYTHONPATH puts it first, torch and all else is shared
$(OLDEST)/.done: | $(VENV)/.test $(CACHE)/timm-$(TIMM_OLDEST)/tests
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(OLDEST) "timm==$(TIMM_OLDEST)"
	@touch $@

tests/js/node_modules/.done: tests/js/package-lock.json
	cd tests/js && npm ci
	@touch $@

clean:
	rm -rf $(VENV) $(CACHE) tests/js/node_modules build dist *.egg-info

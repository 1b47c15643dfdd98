# make demo | test | test-fast | test-scripts | test-export | test-clients | test-js | test-web | web | fuzz | lint |
# setup: each makes .venv or reuses it, and downloads only when setup.cfg has changed
# make dist | test-wheel | sbom | audit | test-cards: what a release is made of, and its checks, in their own environments
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CACHE := .cache
TIMM_OLDEST := $(shell sed -n "s/^TIMM_OLDEST = '\(.*\)'/\1/p" timm_mobilenext/version.py)
OLDEST := $(CACHE)/timm-$(TIMM_OLDEST)/packages

PUBLISH := $(CACHE)/publish
WHEEL := build/wheel

.PHONY: demo test test-fast test-scripts test-export test-clients test-js test-web web chromium fuzz lint setup clean
.PHONY: dist test-wheel sbom audit test-cards

# the detector of the page, unless DETECTOR names the folder of another: the example of docs/detection.md
EXAMPLE := build/detector/best
DETECTOR ?= $(EXAMPLE)
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

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

# every format of docs/deployment.md, each in an environment of its own, which the page's install lines make; it needs
# 12 GB. `make test` runs what ONNX Runtime alone needs
test-export: export OMP_NUM_THREADS ?= 1
test-export: setup
	$(BIN)/python tests/export/formats.py
	$(BIN)/python -m pytest tests/export --numprocesses auto --dist loadfile -rs

# every tool of docs/works-with.md, in three environments; they need 9 GB. W&B is called by timm's train.py, on the
# checkout of timm that TIMM_REPO names
test-clients: export OMP_NUM_THREADS ?= 1
test-clients: setup
	$(BIN)/python tests/clients/tools.py
	$(BIN)/python -m pytest tests/clients --numprocesses auto --dist loadfile -rs

# the page that runs the networks in a browser, in build/web
web: $(VENV)/.test web/node_modules/.package-lock.json $(if $(filter $(EXAMPLE),$(DETECTOR)),$(EXAMPLE)/.done)
	$(BIN)/python web/build.py --detector $(DETECTOR)

# the page in headless Chromium
test-web: export CHROMIUM := $(CHROMIUM)
test-web: chromium web
	$(BIN)/python web/test/expected.py build/web build/web-test
	PAGE=build/web EXPECTED=build/web-test CHROMIUM=$${CHROMIUM:-$$(command -v chromium)} \
		node --test --test-reporter spec web/test/page.test.mjs

# apt-get installs it where it is missing and one is root
chromium: export CHROMIUM := $(CHROMIUM)
chromium:
	@if [ -z "$$CHROMIUM" ] && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		apt-get update -qq && apt-get install -qq --no-install-recommends chromium; CHROMIUM=$$(command -v chromium); fi; \
	[ -x "$$CHROMIUM" ] || { echo "There is no Chromium: install it, or name it with CHROMIUM=/path/to/chromium"; exit 1; }

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
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms \
		$(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.citation-file-format CITATION.cff

# wheel and sdist of the last commit, built twice to the same bytes, in dist/
dist: export SOURCE_DATE_EPOCH = $(shell git log -1 --format=%ct)
dist: export PIP_CONSTRAINT = $(CURDIR)/.github/publish.txt
dist: $(PUBLISH)/.done
	rm -rf build/dist dist
	for copy in first second; do \
		mkdir -p build/dist/$$copy && git archive HEAD | tar -x -C build/dist/$$copy && \
		$(PUBLISH)/bin/python -m build --outdir build/dist/$$copy/dist build/dist/$$copy || exit 1; \
	done
	diff --recursive build/dist/first/dist build/dist/second/dist
	mv build/dist/first/dist dist && rm -rf build/dist
	$(PUBLISH)/bin/python -m twine check --strict dist/*

# the wheel of dist/ in an empty environment, with the newest timm, or with TIMM=oldest the oldest that is supported
test-wheel: $(PUBLISH)/.done
	rm -rf $(WHEEL)
	$(PYTHON) -m venv --without-pip $(WHEEL)
	$(PUBLISH)/bin/python -m pip --python $(WHEEL)/bin/python install --quiet dist/*.whl $(if $(filter oldest,$(TIMM)),timm==$(TIMM_OLDEST))
	$(WHEEL)/bin/python tests/packaging/use.py
	cd $(WHEEL) && bin/timm-mobilenext predict $(CURDIR)/timm_mobilenext/photographs/moose.jpg

# what that environment holds, in CycloneDX, and what is known against it
sbom: $(PUBLISH)/.done
	$(PUBLISH)/bin/cyclonedx-py environment --output-reproducible --output-file build/sbom.json $(WHEEL)/bin/python

audit: $(PUBLISH)/.done
	$(PUBLISH)/bin/pip-audit --path $$($(WHEEL)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")

# our model cards, by the Hub itself, which needs no token for that
test-cards: $(PUBLISH)/.done
	$(PUBLISH)/bin/python tests/hub/ask_hub.py hub_configs/*/README.md

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

web/node_modules/.package-lock.json: web/package.json web/package-lock.json web/.npmrc
	@command -v npm > /dev/null || { echo "There is no npm, which fetches onnxruntime-web: install Node.js 20 or newer"; exit 1; }
	cd web && npm ci --silent
	@touch $@

$(EXAMPLE)/.done: | $(VENV)/.test
	rm -rf $(dir $(EXAMPLE))
	$(BIN)/timm-mobilenext detect train -o $(dir $(EXAMPLE)) --backbone mobilenext_050.cifar10 --pretrained --img-size 224 \
		--batch-size 4 --epochs 100 --opt adamw --lr 0.003 --clip-grad 10 --cache --channels-last --val-interval 20
	@touch $@

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

$(PUBLISH)/.done: .github/publish.txt
	rm -rf $(PUBLISH) && $(PYTHON) -m venv $(PUBLISH)
	$(PUBLISH)/bin/python -m pip install --quiet --requirement .github/publish.txt
	@touch $@

tests/js/node_modules/.done: tests/js/package-lock.json
	cd tests/js && npm ci
	@touch $@

clean:
	rm -rf $(VENV) $(CACHE) tests/js/node_modules web/node_modules build dist *.egg-info

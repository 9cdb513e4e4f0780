# Six verbs. Each one sets up what it needs; nothing has to be installed by hand first.
#   make demo [TEMPLATE=templates/two_servers.yaml] [ENV=environment.yaml]
#   make test-guest           a real boot under qemu; needs root once, to make the image
#   make test [TESTS="tests/unit -k name"]     make lint     make bench     make clean

SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := agent,heat,service,devcloud,test,docs
TEMPLATE ?= templates/two_servers.yaml
ENV ?=
TESTS ?= tests
# Many tests wait for processes of their own, so two run at once; a file stays together, for it shares its servers.
PARALLEL ?= -n 2 --dist loadfile

.PHONY: demo test test-guest lint bench docs clean system

demo: $(VENV)/.ready
	$(BIN)/python -m devcloud demo $(TEMPLATE) $(if $(ENV),-e $(ENV))
	@cat doc/after-the-demo.txt

test: $(VENV)/.ready system
	$(BIN)/python -m pytest $(PARALLEL) $(TESTS)

test-guest: $(VENV)/.ready
	tools/with-packages guest
	$(BIN)/python -m pytest -s tests/real_boot

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_imports.py

bench: $(VENV)/.ready system
	$(BIN)/python -m benchmarks

docs: $(VENV)/.ready
	$(BIN)/sphinx-build -W -q -b html doc/source doc/build/html
	$(BIN)/sphinx-build -W -q -b html api-ref/source doc/build/html/api-ref

# The Python environment, made anew when what it is made of changes.
$(VENV)/.ready: setup.cfg requirements.txt constraints.txt
	tools/with-packages venv
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

# Servers and tools that the tests run for real.
system:
	tools/with-packages test

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache doc/build doc/source/*/generated doc/source/user/types api-ref/source/generated

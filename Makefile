# make train    a virtual environment, distdl in it, and handwritten digits trained by two processes
# make test     the tests, with all that they need, in minutes;  make test-all adds the slow proofs
# make lint     ruff;  make doctor, make clean

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt
NPROC  ?= 2

.PHONY: train test test-slow test-all lint format bench doctor clean install install-test

train: $(VENV)/.train
	$(BIN)/torchrun --standalone --nproc_per_node=$(NPROC) -m distdl.train --profile digits $(ARGS)

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv

$(VENV)/.train: $(BIN)/uv setup.py constraints.txt
	$(UV) --editable .
	touch $@

# Everything that a test may need but Debian packages; containers/horovod/build.sh caches Horovod's wheel. Without a
# compiler there is no Horovod, and its tests are skipped.
$(VENV)/.test: $(VENV)/.train containers/horovod/build.sh
	$(UV) --editable '.[all,dali,dev]'
	wheel=$$(containers/horovod/build.sh $(BIN)/python | tail -n 1); \
	if [ -n "$$wheel" ]; then $(UV) "$$wheel" && touch $@; fi

# Those marked serial need the machine to themselves; two at a time is what two cores take. Both parts always run;
# pytest's code 5 says that ARGS chose none of its tests, which one of them may.
test: $(VENV)/.test
	@failed=0; empty=0; \
	$(BIN)/pytest -n 2 --dist loadgroup -m "not slow and not serial" $(ARGS) || \
	    if [ $$? -eq 5 ]; then empty=1; else failed=1; fi; \
	$(BIN)/pytest -m "serial and not slow" $(ARGS) || \
	    if [ $$? -eq 5 ]; then failed=$$((failed | empty)); else failed=1; fi; \
	exit $$failed

test-slow: $(VENV)/.test
	$(BIN)/pytest -m slow $(ARGS)

test-all: test test-slow

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

doctor: $(VENV)/.train
	$(BIN)/distdl doctor

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache

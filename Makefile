# make train      set up .venv with distdl in it and train handwritten digits on two processes
# make test       run the tests, in minutes;  make test-all adds the slow tests
# make lint       ruff, import-linter, codespell, tools/plain_english.py, pyright;  make format fixes what ruff can fix
# make docs       build the site in build/site;  make gallery runs each study's quick version: build/gallery
# make hashes     write the SHA-256 of the files of all pinned versions, after a version was changed

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# uv verifies the SHA-256 of each file of a version in constraints.txt, also of those that build distdl.
UV     := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt \
          --build-constraint constraints.txt
PINNED := constraints.txt containers/uv.txt containers/horovod/tools.txt .github/tools.txt
NPROC  ?= 2

.PHONY: train test test-slow test-all lint format docs gallery hashes mutants doctor clean

train: $(VENV)/.train
	$(BIN)/distdl launch --nproc $(NPROC) -- --profile digits $(ARGS)

$(BIN)/uv: containers/uv.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement containers/uv.txt
	touch $@

# distdl/__init__.py states the version, which the installed metadata must repeat.
$(VENV)/.train: $(BIN)/uv setup.py constraints.txt distdl/__init__.py
	$(UV) --editable .
	touch $@

# The tools of lint and docs, without the large optional packages that tests need.
$(VENV)/.tools: $(VENV)/.train
	$(UV) --editable '.[dev,docs]'
	touch $@

# Everything that tests need except Debian packages. containers/horovod/build.sh caches Horovod's wheel; without a
# compiler it builds none, and Horovod's tests are skipped.
$(VENV)/.test: $(VENV)/.tools containers/horovod/build.sh
	$(UV) --editable '.[all,dali,dev,docs]'
	wheel=$$(containers/horovod/build.sh $(BIN)/python | tail -n 1); \
	if [ -n "$$wheel" ]; then $(UV) "$$wheel" && touch $@; fi

# Three tests run at a time on two cores, since they wait for processes half of the time; the tests of a file run one
# after another, so that what they share is made once. Those marked serial need the machine to themselves. Both parts
# always run. pytest's code 5 means that ARGS selected no test, which is an error only if it holds for both parts.
test: export PYTHONDONTWRITEBYTECODE = # hundreds of processes are started: the first one compiles for all
test: $(VENV)/.test
	@failed=0; empty=0; \
	$(BIN)/pytest -n 3 --dist loadfile -m "not slow and not serial" $(ARGS) || \
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
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell
	$(BIN)/python tools/plain_english.py
	$(BIN)/pyright

format: $(VENV)/.tools
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# --fail-on-warning: a broken link, or a page that no table of contents lists, is an error.
docs: $(VENV)/.tools
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs . build/site

gallery: $(VENV)/.test
	$(BIN)/python docs/gallery.py build/gallery $(ARGS)

hashes: $(BIN)/uv
	for file in $(PINNED); do \
	    { grep '^#' $$file; sed -e '/--hash/d' -e 's/ \\$$//' $$file | \
	        $(BIN)/uv pip compile --quiet --no-deps --generate-hashes --no-header --no-annotate --universal \
	            --python-version 3.11 -; } > $$file.new && mv $$file.new $$file || exit 1; \
	done

# Hours: the tests run once for each of 300 changes of the core. A second start continues.
mutants: $(VENV)/.test
	mkdir -p build
	$(BIN)/python -m tools.mutants run build/mutants.jsonl $(ARGS)
	$(BIN)/python -m tools.mutants report build/mutants.jsonl

doctor: $(VENV)/.train
	$(BIN)/distdl doctor

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache

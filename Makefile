# `make` alone lists the targets. Needs git, make and Python 3.11, 3.12 or 3.13; everything else goes into .venv.

CANDIDATES := python3.11 python3.12 python3.13 python3
PROBE := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in $(CANDIDATES); do $$p -c '$(PROBE)' >/dev/null 2>&1 && { command -v $$p; break; }; done)

BIN := .venv/bin
SITE := _build/html
CODE := ddpm_lite tests tools benchmarks book/_ext
# every file that the site is made of: the package, the book, its configuration
SOURCES := $(shell find ddpm_lite book -type f ! -name '*.pyc' ! -name '.*') _config.yml _toc.yml \
  benchmarks/results.md benchmarks/solver_errors.svg

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install book student instructor test notebooks checkpoints lab serve bench peers freeze address lint format types shots clean FORCE

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

install: .venv/.installed ## make .venv with the pinned packages

.venv/.installed: requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 with its venv module was found (tried: $(CANDIDATES))."; \
	  echo "Install one (on Debian and Ubuntu also the package python3-venv), or name it: make PYTHON=/path/to/python $(MAKECMDGOALS)"; exit 1; }
	@"$(PYTHON)" -c '$(PROBE)' || { echo "$(PYTHON) does not run, has no venv module, or is not Python 3.11, 3.12 or 3.13."; exit 1; }
	@echo "== Installing into .venv (only the first time, and when the pins change)"
	$(BIN)/python -c "import pip" 2>/dev/null || "$(PYTHON)" -m venv --clear .venv
	$(BIN)/python -m pip install -r requirements.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	@touch $@

book: $(SITE)/.built ## execute every chapter and build the site
	@echo "The book is ready: $(CURDIR)/$(SITE)/index.html"

# The stamp lies inside the site and is written last: without the site, or after a failed build, there is no stamp.
# The old pages go first, because an incremental build hides warnings. The cache of executed chapters stays.
$(SITE)/.built: .venv/.installed _build/.sources $(SOURCES)
	@echo "== Executing the chapters and building the site"
	rm -rf $(SITE) _build/.doctrees
	DDPM_LITE_EXERCISES=public DDPM_LITE_ANSWERS= $(BIN)/jupyter-book build . -W -n --keep-going --all
	@touch $@

# changes only when a file is added or removed: a date alone does not show that
_build/.sources: FORCE
	@mkdir -p _build
	@echo $(sort $(SOURCES)) | cmp -s - $@ || echo $(sort $(SOURCES)) > $@

# ANSWERS names a folder of private answers. Each site gets a fresh folder; executed chapters come from the cache.
EDITION = DDPM_LITE_EXERCISES=$@ DDPM_LITE_ANSWERS="$(ANSWERS)" \
  $(BIN)/jupyter-book build . -W -n --keep-going --all --path-output _build/$@.parts

student: .venv/.installed ## build _build/student, the site without solutions: make student ANSWERS=private
	@echo "== Building the site for students"
	rm -rf _build/$@ _build/$@.parts
	$(EDITION)
	$(BIN)/python tools/leaks.py _build/$@.parts/_build/html $(if $(ANSWERS),--answers "$(ANSWERS)")
	mv _build/$@.parts/_build/html _build/$@
	rm -rf _build/$@.parts
	@echo "The students' site is ready: $(CURDIR)/_build/$@/index.html"

instructor: .venv/.installed ## build _build/instructor, the site with open solutions and known mistakes
	@echo "== Building the site for instructors"
	rm -rf _build/$@ _build/$@.parts
	$(EDITION)
	mv _build/$@.parts/_build/html _build/$@
	rm -rf _build/$@.parts
	@echo "The instructors' site is ready: $(CURDIR)/_build/$@/index.html"

test: $(SITE)/.built ## build the book if needed, then run all tests
	@echo "== Running the tests"
	$(BIN)/python -m pytest -n auto

# the ones that the site publishes; a chapter's first cell installs the package where it is missing
notebooks: book ## write _build/notebooks/*.ipynb, for Colab
	@rm -rf _build/notebooks && mkdir -p _build/notebooks
	cp $(SITE)/_sources/book/[0-9]*.ipynb _build/notebooks/
	for file in $(SITE)/_sources/book/exercises/*.ipynb; do cp "$$file" "_build/notebooks/exercises_$${file##*/}"; done

# minutes; a chapter that ships tensors has the code that made them
checkpoints: .venv/.installed ## train again what chapters ship, into ddpm_lite/book/checkpoints
	@mkdir -p _build/checkpoints
	for file in $$(grep -l 'book.checkpoint(' book/[0-9]*.md); do DDPM_LITE_RETRAIN=1 TQDM_DISABLE=1 $(BIN)/jupytext \
	  --to ipynb --execute --output "_build/checkpoints/$$(basename "$$file" .md).ipynb" "$$file" || exit 1; done

lab: .venv/.installed ## JupyterLab on the chapters
	$(BIN)/jupytext-config --settings-file .venv/etc/jupyter/labconfig/default_setting_overrides.json \
	  set-default-viewer markdown myst
	$(BIN)/jupyter-lab --notebook-dir book

serve: book ## show the site on this machine only, at port 8000
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory $(SITE) 8000

# with the peers where `make peers` has installed them; names limit it: make bench ONLY="solvers memory"
bench: .venv/.installed ## run the benchmarks (minutes) and write benchmarks/results.json
	@if [ -x .venv-peers/bin/python ]; then .venv-peers/bin/python benchmarks/run.py $(ONLY); \
	  else $(BIN)/python benchmarks/run.py $(ONLY); fi

peers: .venv/.installed ## make .venv-peers: this package beside the libraries it is compared with
	"$(PYTHON)" -m venv --clear .venv-peers
	.venv-peers/bin/python -m pip install "torch==$$($(BIN)/python -c 'import torch; print(torch.__version__.split("+")[0])')"
	.venv-peers/bin/python -m pip install -r benchmarks/peers.txt -e '.[book]'
	.venv-peers/bin/python -m pip install --no-deps k-diffusion torchcfm

freeze: ## pin the newest packages that work together, on Python 3.11
	python3.11 -m venv --clear _build/freeze
	_build/freeze/bin/python -m pip install --upgrade pip
	_build/freeze/bin/python -m pip install -e '.[book,images,test]' --group site
	@{ echo "# The tested environment, on Python 3.11. Written by: make freeze"; \
	  _build/freeze/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' | grep -vE '^(nvidia|cuda|triton)'; \
	} > _build/freeze/requirements.txt
	cp _build/freeze/requirements.txt requirements.txt

address: .venv/.installed ## write the address that _config.yml names wherever it is used
	$(BIN)/python tools/address.py

lint: .venv/.installed ## check style and format
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

format: .venv/.installed ## mend style and format
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

types: .venv/.installed ## check types
	$(BIN)/mypy

shots: book ## screenshots of every page into _build/shots (needs Chromium)
	$(BIN)/python tools/shots.py

clean: ## remove what was built; .venv stays
	rm -rf _build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find ddpm_lite tests tools benchmarks book -name __pycache__ -type d -prune -exec rm -rf {} +

# The study in a few words: `make study` runs it, `make test` tests it; each sets up .venv by itself.

# What `make study` runs: a profile of sshsnet_core/profiles/, how many folds, a factor on the training steps, and all
# rows or one, such as ROW=cotr.
PROFILE = mini
FOLDS = 1
EFFORT = 1
ROW = all
# What `make adapt` and `make real` read: unlabelled scans and the name of the adapted networks; volumes to measure on.
FOLDER =
NAME = adapted
DATA =
SEEDS = 3

# The Python that .venv is made with, 3.11 to 3.14.
BASE_PYTHON = python3

VENV = .venv
PYTHON = $(VENV)/bin/python
PIP = $(PYTHON) -m pip --disable-pip-version-check
INSTALL = $(PIP) install -qq --no-deps
# The tools that commands call by name (papermill, snakemake) are those of .venv.
IN_VENV = PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

# Two files at a time, each on one core: two torch processes that both believe they have all cores slow each other down.
TESTING = $(IN_VENV) OMP_NUM_THREADS=1 SSHSNET_PROFILE=smoke $(PYTHON)
TWO_FILES = -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help study table1 cps labels released switches weights adapt real test test-browser book lint lab hooks lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile
	@echo "Variables: PROFILE=$(PROFILE) FOLDS=$(FOLDS) EFFORT=$(EFFORT) ROW=$(ROW) BASE_PYTHON=$(BASE_PYTHON)"

study: $(VENV)/.installed ## run the study: preprocess, train all rows, evaluate, draw Tables 1 and 2 and the figures
	$(IN_VENV) $(PYTHON) -m sshsnet_core study $(ROW) --profile "$(PROFILE)" --folds $(FOLDS) --effort $(EFFORT)

table1: $(VENV)/.installed ## SSHSNet and its five variations alone: Table 1
	$(IN_VENV) $(PYTHON) -m sshsnet_core study table1 --profile "$(PROFILE)" --folds $(FOLDS) --effort $(EFFORT)

cps: $(VENV)/.installed ## study cross pseudo supervision alone, at equal steps and at equal time
	$(IN_VENV) $(PYTHON) -m sshsnet_core study cps --profile "$(PROFILE)" --folds $(FOLDS) --effort $(EFFORT)

labels: $(VENV)/.installed ## study cross pseudo supervision where only one training case in 16, 8 or 4 is labelled
	$(IN_VENV) $(PYTHON) -m sshsnet_core study labels --profile "$(PROFILE)" --folds $(FOLDS) --effort $(EFFORT)

released: $(VENV)/.installed ## train the baselines as their authors released them, beside our reading of them
	$(IN_VENV) $(PYTHON) -m sshsnet_core study released --profile "$(PROFILE)" --folds $(FOLDS) --effort $(EFFORT)

switches: $(VENV)/.installed ## turn our own switches one by one (CTAM as printed, no CutMix, ...), with what each is worth
	$(IN_VENV) $(PYTHON) -m sshsnet_core study switches --profile "$(PROFILE)" --folds $(FOLDS) --effort $(EFFORT)

weights: $(VENV)/.installed ## train the networks that come with the package anew, on phantoms alone (an hour, 8 GB)
	$(IN_VENV) $(PYTHON) -m sshsnet_core weights

adapt: $(VENV)/.installed ## adapt the shipped networks to a FOLDER of unlabelled scans, under the NAME that predict takes
	@$(if $(FOLDER),,$(error Name the folder of scans: make adapt FOLDER=scans NAME=mine))
	$(IN_VENV) $(PYTHON) -m sshsnet_core adapt "$(FOLDER)" --name "$(NAME)"

real: $(VENV)/.installed ## measure before and after the adaptation on volumes of which a part is annotated (DATA=folder)
	@$(if $(DATA),,$(error Name the folder of volumes: make real DATA=folder))
	$(IN_VENV) $(PYTHON) -m sshsnet_core real "$(DATA)" --seeds $(SEEDS)

test: $(VENV)/.installed ## run the tests, then every notebook in the smoke profile
	$(TESTING) -m pytest $(TWO_FILES)
	@# The notebooks step through a study of their own, which leaves nothing behind.
	scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && SSHSNET_RUNS="$$scratch/runs" \
	  SSHSNET_FIGURES="$$scratch/figures" $(TESTING) -m pytest --nbval-lax notebooks $(TWO_FILES)

test-browser: $(VENV)/.installed ## open the notebooks in JupyterLab and the machine's own Chromium, and use them
	$(IN_VENV) $(PYTHON) -m pytest -m browser tests/browser

book: $(VENV)/.installed ## render the executed notebooks as a site that opens from the file system (runs/book/index.html)
	$(IN_VENV) $(PYTHON) -m sshsnet_core.book runs/book --profile "$(PROFILE)" --effort $(EFFORT)

lint: $(VENV)/.installed ## check style and types
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

lab: $(VENV)/.installed ## open the notebooks in JupyterLab
	@# An uploaded scan is one message to the kernel, which Tornado would cut off at 10 MiB.
	$(IN_VENV) $(PYTHON) -m jupyterlab notebooks \
	  --ServerApp.tornado_settings="{'websocket_max_message_size': 2147483648}"

hooks: $(VENV)/.installed ## check every commit before it is made
	$(PYTHON) -m pre_commit install

# A CPU build of torch for Linux, listed beside PyPI's files so that either satisfies the lock. Change it with the version.
TORCH_CPU = sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b
CUDA = /^(cuda|nvidia|triton)/

lock: ## write both locks and environment.yml anew from pyproject.toml (needs uv; UPGRADE=--upgrade moves the versions)
	sed -n 's/ *\\$$//; /^[^ ]/p' requirements.lock requirements-cuda.lock > .resolved.txt
	uv pip compile pyproject.toml --extra dev --universal --generate-hashes --no-annotate --no-header \
	  --no-emit-index-url --quiet $(UPGRADE) --output-file .resolved.txt
	awk '/^[^ ]/ {cuda = $(CUDA)} !cuda {print} /^torch==/ {print "    --hash=$(TORCH_CPU) \\"}' .resolved.txt > requirements.lock
	awk '/^[^ ]/ {cuda = $(CUDA)} cuda' .resolved.txt > requirements-cuda.lock
	{ printf 'name: sshsnet\nchannels:\n  - conda-forge\ndependencies:\n  - python=3.11\n  - pip\n  - pip:\n'; \
	  sed -n 's/ *\\$$//; s/^[^ ].*/      - "&"/p' requirements.lock; echo '      - "-e ."'; } > environment.yml
	rm .resolved.txt

clean: ## remove everything the study produced (runs/); .venv and figures/ stay
	rm -rf runs

# Always from nothing, and marked as done last: an interrupted installation is never taken for a whole one.
$(VENV)/.installed: requirements.lock requirements-cuda.lock pyproject.toml
	@$(BASE_PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { \
	  echo "SSHSNet needs Python 3.11 to 3.14, but $(BASE_PYTHON) is $$($(BASE_PYTHON) --version 2>&1);" \
	       "name another one with, for example, make $(MAKECMDGOALS) BASE_PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up $(VENV) from requirements.lock: a few minutes, and more where gigabytes of GPU libraries come along."
	@rm -rf $(VENV)
	@$(BASE_PYTHON) -m venv $(VENV)
	@# A wheel of torch in a folder that pip is configured with (find-links), say a CPU build, goes before the index's.
	@awk '/^[^ ]/ {torch = /^torch==/} torch' requirements.lock > $(VENV)/torch.lock
	@$(INSTALL) --no-index --require-hashes -r $(VENV)/torch.lock 2> /dev/null || true
	@$(INSTALL) --require-hashes -r requirements.lock
	@# PyPI's torch for Linux needs NVIDIA's libraries; a CPU build does without these gigabytes.
	@if $(PIP) check | grep -q '^torch .* is not installed'; then \
	  $(INSTALL) --require-hashes -r requirements-cuda.lock; fi
	@$(INSTALL) --no-index --no-build-isolation --editable .
	@$(PIP) check
	@touch $@

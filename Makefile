# Two commands do all the set-up: `make demo` and `make test`. Each makes .venv and installs what it needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
QUICK  := outputs/quickstart
SHIPPED := $(wildcard release/onnx)
export HF_HUB_DISABLE_TELEMETRY = 1

.PHONY: demo demo-static quickstart train results release test test-fast quality format clean help

help:            ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: .*## /\t/' | sort

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: $(VENV)/.installed $(if $(SHIPPED),,$(QUICK)/model/evaluation/results.json)    ## the page at http://127.0.0.1:7860
	MODEL_ID=$(if $(SHIPPED),release,$(QUICK)/model) $(BIN)/python space/app.py

demo-static: $(VENV)/.installed    ## the page that runs in the browser, at http://127.0.0.1:7861; needs npm
	$(BIN)/python space_static/serve.py $(if $(SHIPPED),release,$(QUICK)/model)

quickstart:      ## train the small CNN on synthetic phantoms, evaluate it, classify one slice: a minute or two
	rm -rf $(QUICK)
	$(MAKE) $(QUICK)/model/evaluation/results.json

$(QUICK)/model/evaluation/results.json: $(VENV)/.installed
	rm -rf $(QUICK)
	$(BIN)/brain-mri quickstart $(QUICK)

train: $(VENV)/.installed   ## train a recipe: make train RECIPE=efficientnet DATA=<folder or Hub dataset>
	@test -n "$(DATA)" || { echo "which data? make train RECIPE=efficientnet DATA=<folder or Hub dataset>"; exit 2; }
	$(BIN)/accelerate launch train.py configs/$(or $(RECIPE),efficientnet).yaml --data_dir $(DATA)

results: $(VENV)/.installed ## docs/results.md, from the stored records; prints the README's row
	@$(BIN)/python -m brain_mri.reporting.tables --page release $(sort $(wildcard results/*)) > docs/results.md.new
	@mv docs/results.md.new docs/results.md
	@$(BIN)/python -m brain_mri.reporting.tables --row release

release: $(VENV)/.installed ## release/ and model_card.md: make release MODEL=<folder> DATA_LICENSE="<licence, authors>"
	@test -n "$(MODEL)" || { echo "which model? make release MODEL=<the folder that train.py left> DATA_LICENSE=..."; exit 2; }
	$(BIN)/python -m brain_mri.hub.release $(MODEL) release --card model_card.md --data_license "$(DATA_LICENSE)"

test: $(VENV)/.installed    ## every test; those on real images run where BRAIN_MRI_DATA names their folder
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/.installed    ## the tests of one's own change: no real data, no several processes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

quality: $(VENV)/.installed ## ruff and mypy, as CI runs them
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed  ## let ruff format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:           ## remove the environment and all outputs
	rm -rf $(VENV) outputs build *.egg-info

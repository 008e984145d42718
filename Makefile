# Two commands matter: `make demo` and `make test`. Both build their own environment in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
DEFAULT := "not slow and not gpu and not network"

.PHONY: demo test test-all lint lock clean

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "metaformer needs Python 3.11, 3.12 or 3.13; $(PYTHON) is %d.%d. Name another: make PYTHON=python3.11 ..." % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --progress-bar on -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

## the paper's ablation, small: seven rows with three seeds on the handwritten digits; writes sweeps/demo/report.html
demo: $(VENV)/.ready
	$(BIN)/metaformer ablate demo --data digits --seeds 3 --out sweeps/demo --overwrite

## the default suite: under 15 minutes on 2 cores, no internet, no GPU
# Engines (OpenVINO, ONNX Runtime, Inductor) leave threads behind in a process, and data loaders fork theirs: not the same ones.
test: $(VENV)/.ready
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m $(DEFAULT) --ignore tests/deploy --ignore tests/benchmark
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m $(DEFAULT) tests/deploy tests/benchmark

test-all: $(VENV)/.ready
	$(BIN)/python -m pytest -m "not gpu and not network"

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

## resolve the dependencies again, for every supported Python, with hashes
lock: $(VENV)/.ready
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate --upgrade --quiet -o requirements.lock

clean:
	rm -rf $(VENV) runs

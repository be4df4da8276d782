# Two commands do everything on a fresh machine with Python 3.11 or newer: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
WORKERS ?= 2

# The oldest torch that is supported, for `make floors`; FLOORS_INDEX may name an index of small builds, such as
# `--index-url https://download.pytorch.org/whl/cpu`.
FLOORS_TORCH ?= 2.8.0
FLOORS_INDEX ?=

.PHONY: quickstart test lint slow floors newest doc dist-check changelog clean

$(VENV)/installed: pyproject.toml constraints.txt setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,plot,progress,parquet]"
	touch $@

$(VENV)/installed-doc: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[doc]"
	touch $@

quickstart: $(VENV)/installed
	$(BIN)/python examples/quickstart.py

# Each worker gets one thread: two workers with two threads each would only wait for one another. A worker begins with half of the
# tests in a row and takes over some of the other's when it is done, so that hardly a file's fixtures are made by both.
test: $(VENV)/installed
	OMP_NUM_THREADS=1 SCIPY_ARRAY_API=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --doctest-modules sklearn_autorec -q
	OMP_NUM_THREADS=1 $(BIN)/python examples/quickstart.py --rows 6000 --epochs 3 --no-picture
	OMP_NUM_THREADS=1 $(BIN)/python examples/choose_papers.py --rows 2000 --epochs 2 --jobs 1
	OMP_NUM_THREADS=1 $(BIN)/python examples/serve_crosses.py --rows 8000
	OMP_NUM_THREADS=1 $(BIN)/python examples/search_everything.py --rows 2000 --epochs 3 --no-picture
	OMP_NUM_THREADS=1 $(BIN)/python examples/select_features.py --rows 3000 --evaluations 30
	OMP_NUM_THREADS=1 $(BIN)/python examples/three_methods.py
	mkdir -p build/pictures
	OMP_NUM_THREADS=1 $(BIN)/python examples/plot_inspection.py --rows 4000 --folder build/pictures
	OMP_NUM_THREADS=1 $(BIN)/python examples/plot_gates.py --rows 3000 --folder build/pictures

slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

.venv-floors/installed: pyproject.toml constraints-floors.txt setup.py
	$(PYTHON) -m venv .venv-floors
	.venv-floors/bin/python -m pip install --quiet -c constraints-floors.txt numpy
	.venv-floors/bin/python -m pip install --quiet $(FLOORS_INDEX) torch==$(FLOORS_TORCH)
	.venv-floors/bin/python -m pip install --quiet -c constraints-floors.txt onnxruntime -e ".[plot,progress,parquet,frames,onnx]"
	touch $@

# On every declared floor at once. Run by hand and by `.ci/run --floors`: torch takes gigabytes from some indices.
floors: .venv-floors/installed
	OMP_NUM_THREADS=1 .venv-floors/bin/python examples/quickstart.py --rows 3000 --epochs 1 --no-picture
	OMP_NUM_THREADS=1 .venv-floors/bin/python .ci/floors.py

# On the newest releases, pre-releases included; by hand, and once a week by a workflow. A new environment each time, since a
# week later "newest" is another one. NEWEST_INDEX may name an index of nightly builds.
NEWEST_INDEX ?=
newest:
	rm -rf .venv-newest
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --pre --upgrade $(NEWEST_INDEX) scikit-learn torch pandas numpy
	.venv-newest/bin/python -m pip install --quiet -e ".[dev,plot,progress,parquet]"
	.venv-newest/bin/python -m pip list | grep -iE "^(scikit-learn|torch|pandas|numpy) "
	OMP_NUM_THREADS=1 SCIPY_ARRAY_API=1 .venv-newest/bin/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# From scratch each time, so that no warning hides in a page built before; warnings are errors.
doc: $(VENV)/installed-doc
	rm -rf doc/_build doc/generated doc/sg_execution_times.rst
	$(BIN)/python -m sphinx -q -W --keep-going -n -b html doc doc/_build/html
	@echo "doc/_build/html/index.html"

# Both distributions, their contents, and the package where nothing else is installed.
dist-check:
	OMP_NUM_THREADS=1 $(PYTHON) .ci/dist.py

# When a release is made: the fragments become a section of doc/changelog.rst.
changelog:
	$(PYTHON) doc/fold_changelog.py

clean:
	rm -rf $(VENV) .venv-floors .venv-newest doc/_build doc/generated doc/sg_execution_times.rst build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

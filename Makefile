# Common tasks on a fresh machine with Python and a C++ compiler. `make demo` learns a fractal, and `make test` runs the
# tests. Both use their own virtual environment, .venv, which is created if it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One process per core. Each one runs whole files, because the tests of a file share data that they build. It has one
# thread; tests of threads use more.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=8 --dist=loadfile
REQUIREMENTS ?= requirements.txt
SOURCES := setup.py pyproject.toml $(REQUIREMENTS) fractalops/op_table.py \
	$(wildcard csrc/*.h csrc/cpu/* csrc/cuda/*)

.PHONY: demo test test-slow check docs wheel check-wheel bench gpu clean always

demo: $(VENV)/built
	@echo 'Learning a fractal for examples/leaf.png: 10 to 20 seconds on two idle cores.'
	$(BIN)/fractalops fit examples/leaf.png --output fractals --overwrite

test: $(VENV)/installed
	$(PYTEST)

# The tests that take more than a few seconds each.
test-slow: $(VENV)/installed
	$(PYTEST) -m slow

# The checks that continuous integration runs in addition to the tests.
check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror csrc/*.h csrc/cpu/* csrc/cuda/* tests/sanitizers/* \
		tests/cuda_emulation/* bench/*.cpp

# The documentation site, build/site/index.html. It is built without network access, and warnings are errors.
docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo 'Open build/site/index.html in a browser. Its search needs a server: python3 -m http.server --directory build/site'

# A wheel in dist/ for every Python from 3.10 on and every torch from 2.11 on. It does not contain torch's own libraries.
wheel: $(VENV)/installed
	rm -rf build/wheel
	FRACTALOPS_BUILD=cpu $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps \
		--wheel-dir build/wheel .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m auditwheel repair --exclude 'libtorch*' --exclude 'libc10*' \
		--wheel-dir dist build/wheel/*.whl

# Runs the demo and the tests of the ops with that wheel, for each version of torch in TORCH. Each one has its own
# environment, without a compiler.
TORCH ?= 2.13.0 2.14.1
check-wheel: wheel
	$(BIN)/python -m tests.support.check_wheel dist/*.whl $(TORCH)

bench: $(VENV)/installed
	$(BIN)/fractalops bench --overwrite

# Build, check, test and measure on a machine with a GPU, with the packages of its Python.
gpu:
	$(PYTHON) -m bench gpu

# The package, with plots. torch is installed first, so that the build finds it and does not download another one.
$(VENV)/built: $(SOURCES) $(VENV)/requirements
	@echo 'Installing into $(VENV). The first time this downloads torch (200 MB, or 3 GB with the CUDA libraries that it has'
	@echo 'by default on Linux) and compiles the kernels: 1 to 10 minutes, by the network and the number of cores.'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check $(REQUIREMENTS:%=--requirement %)
	$(BIN)/python -m pip install --disable-pip-version-check --no-build-isolation --editable '.[plot]'
	touch $@

# The tools of the tests, benchmarks and documentation.
$(VENV)/installed: $(VENV)/built
	@echo 'Installing the tools of the developers into $(VENV). The first time this downloads about 500 MB.'
	$(BIN)/python -m pip install --disable-pip-version-check --no-build-isolation --editable '.[dev]'
	touch $@

# The names of the installed requirements files. The file changes if they change.
$(VENV)/requirements: always
	@mkdir -p $(VENV)
	@echo '$(REQUIREMENTS)' | cmp -s - $@ || echo '$(REQUIREMENTS)' >$@

clean:
	rm -rf $(VENV) build *.egg-info fractalops/_*.so

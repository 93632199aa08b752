# Everything on a fresh machine with Python and a C++ compiler: `make demo` learns a fractal, `make test` runs the tests.
# Both work in a virtual environment of their own, .venv, which is made when it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A process for each core, which runs whole files, as tests of a file share what they build. On one thread: tests of threads
# ask for more.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=8 --dist=loadfile
REQUIREMENTS ?= requirements.txt
SOURCES := setup.py pyproject.toml $(REQUIREMENTS) fractalops/op_table.py \
	$(wildcard csrc/*.h csrc/cpu/* csrc/cuda/*)

.PHONY: demo test test-slow check docs wheel check-wheel bench gpu clean always

demo: $(VENV)/built
	@echo 'Learning a fractal for examples/leaf.png: 10 to 20 seconds on two cores.'
	$(BIN)/fractalops fit examples/leaf.png --output fractals --overwrite

test: $(VENV)/installed
	$(PYTEST)

# What takes more than a few seconds a test.
test-slow: $(VENV)/installed
	$(PYTEST) -m slow

# What continuous integration runs besides the tests.
check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror csrc/*.h csrc/cpu/* csrc/cuda/* tests/sanitizers/* \
		tests/cuda_emulation/* bench/*.cpp

# The documentation site, build/site/index.html: without network, warnings are errors.
docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

# A wheel for every Python from 3.10 and every torch from 2.11, in dist/: torch's own libraries stay outside.
wheel: $(VENV)/installed
	rm -rf build/wheel
	FRACTALOPS_BUILD=cpu $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps \
		--wheel-dir build/wheel .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m auditwheel repair --exclude 'libtorch*' --exclude 'libc10*' \
		--wheel-dir dist build/wheel/*.whl

# The demo and the tests of the ops with that wheel, in an environment of its own without a compiler, for each of TORCH.
TORCH ?= 2.13.0 2.14.1
check-wheel: wheel
	$(BIN)/python -m tests.support.check_wheel dist/*.whl $(TORCH)

bench: $(VENV)/installed
	$(BIN)/fractalops bench --overwrite

# On a machine with a GPU, with the packages of its own Python: build, check, test and measure in ten minutes.
gpu:
	$(PYTHON) -m bench gpu

# The package, with plots. torch comes first: the build finds it there, and does not download one of its own.
$(VENV)/built: $(SOURCES) $(VENV)/requirements
	@echo 'Installing into $(VENV). The first time this downloads torch (200 MB, or 3 GB with the CUDA libraries that it has'
	@echo 'by default on Linux) and compiles the kernels: 1 to 10 minutes, by the network and the number of cores.'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check $(REQUIREMENTS:%=--requirement %)
	$(BIN)/python -m pip install --disable-pip-version-check --no-build-isolation --editable '.[plot]'
	touch $@

# And the tools of the tests, benchmarks and documentation.
$(VENV)/installed: $(VENV)/built
	@echo 'Installing the tools of the developers into $(VENV). The first time this downloads about 500 MB.'
	$(BIN)/python -m pip install --disable-pip-version-check --no-build-isolation --editable '.[dev]'
	touch $@

# Which requirements are installed: the file changes when they do.
$(VENV)/requirements: always
	@mkdir -p $(VENV)
	@echo '$(REQUIREMENTS)' | cmp -s - $@ || echo '$(REQUIREMENTS)' >$@

clean:
	rm -rf $(VENV) build *.egg-info fractalops/_*.so

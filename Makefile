# What people type. `make demo` and `make test` work on a fresh clone: they make .venv and install into it. Later calls
# rebuild only what changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# The sources hold no warnings: keep it so. The CUDA backend follows PYMASR_CUDA (see setup.py).
BUILD := CMAKE_ARGS="-DMASR_WERROR=ON $(CMAKE_ARGS)" $(BIN)/python setup.py -q
SANITIZED := build/sanitize
RUNTIMES = $(shell $(CXX) -print-file-name=libasan.so):$(shell $(CXX) -print-file-name=libstdc++.so)

.PHONY: demo test docs wheel lint bench gpu-check sanitize extension emulation itk-headers itk-test clean

demo: extension
	$(BIN)/python -m pymasr.demo

test: extension emulation
	$(BIN)/python -m pytest

# The documentation site, build/site/index.html; any warning is an error.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

# A wheel for other machines of what `extension` compiled, dist/.
wheel: extension
	$(BIN)/python packaging/make_wheel.py

lint: $(INSTALLED)
	$(BIN)/python -m ruff check .

bench: extension
	$(BIN)/python -m benchmarks.kernels

# Builds with this machine's own Python, tests the kernels on its GPU and measures them; nothing is installed.
gpu-check:
	$(PYTHON) -m benchmarks.gpu_check

# Tests of the kernels under AddressSanitizer and UndefinedBehaviorSanitizer, on a copy of the package of its own. Peak
# memory is not tested, the sanitizers take some themselves; leaks are not looked for, the interpreter never frees
# everything. libstdc++ is loaded first, or exceptions can't be followed; the capture leaves file descriptor 2 alone,
# where reports go.
sanitize: $(INSTALLED)
	PYMASR_BUILD_DIR=$(SANITIZED)/cmake PYMASR_CUDA=OFF CMAKE_ARGS="-DMASR_SANITIZE=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo" \
	  $(BIN)/python setup.py -q build --build-base $(SANITIZED) --build-lib $(SANITIZED)/lib
	PYTHONPATH=$(SANITIZED)/lib LD_PRELOAD=$(RUNTIMES) PYTHONMALLOC=malloc \
	  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
	  $(BIN)/pytest --capture=sys -p no:cacheprovider -m "not large" -k "not memory" tests/ops

# With the metric for the itk package where ITK's headers are to be had.
extension: $(INSTALLED)
	@mkdir -p build
	@itk_wrapping/fetch_headers.sh build/itk/5.4 || true
	PYMASR_BUILD_DIR=build/extension $(BUILD) build_ext --inplace >build/extension.log || { cat build/extension.log; exit 1; }

# The headers of ITK 5.4, see docs/itk.md.
itk-headers:
	itk_wrapping/fetch_headers.sh build/itk/5.4

# The ITK module against an ITK of this machine, which is installed where it may be, and its tests.
itk-test: extension
	itk_wrapping/install_itk.sh
	$(BIN)/cmake --install build/extension --prefix build/masr >build/itk-test.log
	$(BIN)/cmake -S itk_wrapping -B build/itk/module -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja \
	  -DCMAKE_PREFIX_PATH=$(CURDIR)/build/masr >>build/itk-test.log || { cat build/itk-test.log; exit 1; }
	$(BIN)/cmake --build build/itk/module >>build/itk-test.log || { cat build/itk-test.log; exit 1; }
	$(BIN)/ctest --test-dir build/itk/module --output-on-failure

# The CUDA kernels compiled for the CPU, see tests/cuda_emulation.
emulation: extension
	$(BIN)/cmake --build build/extension --target cuda_emulation >build/emulation.log || { cat build/emulation.log; exit 1; }

$(INSTALLED): pyproject.toml constraints.txt setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade -c constraints.txt pip setuptools cmake ninja pybind11 swig
	mkdir -p build
	PYMASR_BUILD_DIR=build/extension CMAKE_ARGS="-DMASR_WERROR=ON $(CMAKE_ARGS)" \
	  $(BIN)/python -m pip install -q --no-build-isolation -c constraints.txt -e ".[itk,elastix,sitk,batch,monai,torchio,test,bench,docs,wheel,dev]"
	touch $@

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache $(VENV)
	find pymasr -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# `make demo` and `make test` need Python 3.11 or 3.12 and nothing else; both set themselves up.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
FAMILY := $(VENV)/openmmlab
FAMILY_PINS := mmengine==0.11.0rc3 mmcv-lite==2.1.0 mmdet==3.3.0 mmsegmentation==1.2.2

# onedl-mmcv compiles its ops where it can see torch; in an isolated build it never does. The pins
# hold inside that build too (pip >= 25.3 has a variable of its own for it).
unexport PIP_NO_BUILD_ISOLATION
unexport PYTHONDONTWRITEBYTECODE  # every test worker would compile everything again
export PIP_CONSTRAINT := $(CURDIR)/requirements.txt
export PIP_BUILD_CONSTRAINT := $(CURDIR)/requirements.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-family lint format clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: $(INSTALLED) ## train with five encodings on the synthetic benchmark, measure, report
	$(RUN) tools/demo.py

test: lint $(FAMILY)/.installed ## lint, then all tests; real data too where MMPLUGINS_DATA names it
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 3 --dist worksteal
	@$(MAKE) --no-print-directory test-family

test-family: $(FAMILY)/.installed ## the tests marked `family`, under the original OpenMMLab
	PYTHONPATH=$(CURDIR)/$(FAMILY) OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 -m family \
	  $$(grep -l mark.family tests/test_*.py)

lint: $(INSTALLED) ## ruff: rules and format
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(INSTALLED) ## let ruff rewrite what it can
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean: ## remove .venv and everything built
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis

# A stamp is written last, so an install that was cut off is taken up again.
$(INSTALLED): requirements.txt setup.py
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || { \
	  echo "error: requirements.txt pins need Python 3.11 or 3.12; $(PYTHON) is" \
	    "$$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  echo "error: this Python cannot make virtual environments." \
	    "On Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV), several GB with torch's CUDA libraries; later runs reuse it"
	$(RUN) -m pip install --quiet --requirement requirements.txt
	@# A host requires OpenCV with windows and without; without, no X libraries need to be there.
	$(RUN) -m pip install --quiet --no-deps --force-reinstall opencv-python-headless
	$(RUN) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# A folder in front of .venv's own packages: pure wheels that share their dependencies.
$(FAMILY)/.installed: $(INSTALLED) Makefile
	@rm -rf $(FAMILY)
	$(RUN) -m pip install --quiet --no-deps --target $(FAMILY) $(FAMILY_PINS)
	@rm -rf $(FAMILY)/tests
	@touch $@

# `make` lists the commands. Every one of them first makes sure that .venv holds the locked dependencies;
# once it does, that check takes a few milliseconds. PYTHON=python3.12 chooses another interpreter.

PYTHON ?=
ARGS ?=
UV = .venv/bin/uv
BIN = .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-faults lint format lock clean

help: ## List these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
		|| sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1  \2/p' $(MAKEFILE_LIST)

install: ## Create .venv and install the locked dependencies (does nothing the second time)
	@PYTHON="$(PYTHON)" .ci/install

demo: install ## Train, evaluate and report a small YOTO model on embedded data (two minutes)
	@$(BIN)/python launch.py --config=configs/yoto_cifar.py:smoke $(ARGS)

# Two workers: most of the time goes into compiling, so the compiler is told to do it quickly: not to optimise, and to
# emit code the short way, which takes a third of the time (the slow tests have it as users do). ARGS="-n 0" runs in this
# process, for a debugger.
QUICK = --xla_backend_optimization_level=0 $$($(BIN)/python -c "from jaxrepro.compiling import SHORT_CODE; \
	print(*(f'--{name}={str(value).lower()}' for name, value in SHORT_CODE.items()))")
test: install ## Run the default tests; ARGS="tests/report -x" narrows them
	@XLA_FLAGS="$(XLA_FLAGS) $(QUICK)" $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: install ## Run the tests that take minutes
	@$(BIN)/python -m pytest -m slow $(ARGS)

# Damaged files of every kind, a few minutes; ARGS="--trials=200 --seed=1" for others.
test-faults: install ## Damage run folders, checkpoints, caches and sources 1,000 times: nothing may be silent or crash
	@$(BIN)/python tests/faults/fuzz.py $(ARGS)

lint: install ## Check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: install ## Fix what can be fixed automatically
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# Locks for all supported versions of Python; they name no index, so they work with any mirror: what is installed, what
# installs it, and what builds those packages that come as source.
COMPILE = $(UV) pip compile --universal --python-version 3.11 --generate-hashes --quiet \
	--no-annotate --no-header --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade)
lock: install ## Resolve requirements.lock anew from pyproject.toml (UPGRADE=1 takes the newest versions)
	@$(COMPILE) pyproject.toml --extra dev -o requirements.lock
	@printf '%s\n' uv pip | $(COMPILE) - -o .ci/tools.lock
	@printf '%s\n' 'setuptools>=77' wheel meson-python ninja | $(COMPILE) - -o .ci/build.lock

clean: ## Remove .venv and caches; runs/ stays
	@rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

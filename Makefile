# Attacca. `make demo` and `make test` set up all they need in .venv: no GPU, and no torch before `make test-train`.
# Only Python 3.11 or newer with venv, and make, must be there. Each stage leaves a stamp, so a second run is quick.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet
REQUIREMENTS := pyproject.toml setup.py $(wildcard requirements/*.txt kernels/*)
ARGS ?=
CXX_FILES := 'plugin_stub/*.cpp' 'plugin_stub/*.hpp' 'plugin_stub/*.h' 'kernels/*.cpp' 'kernels/*.h' 'tests/*.cpp'

.DEFAULT_GOAL := help
.PHONY: help demo demo-plugin plugin plugin-windows test test-slow test-realtime test-train test-plugin fuzz test-all lint format typecheck bench quality train-tiny train docs clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (or name one: make PYTHON=...)" >&2; exit 1; }
	@echo "creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV) || { echo "venv failed; on Debian: apt install python3-venv" >&2; exit 1; }

$(VENV)/.demo-ready: $(BIN)/python $(REQUIREMENTS)
	@echo "installing attacca and what the demo needs (CPU only, no torch)"
	@$(PIP) install -c requirements/runtime.txt -e '.[demo]'
	@touch $@

$(VENV)/.dev-ready: $(BIN)/python $(REQUIREMENTS)
	@echo "installing attacca and what tests and lint need (CPU only, no torch)"
	@$(PIP) install -c requirements/dev.txt -e '.[demo,dev]'
	@touch $@ $(VENV)/.demo-ready

$(VENV)/.plugin-ready: $(VENV)/.dev-ready
	@echo "installing what tests of the plugin in other people's hosts need (DawDreamer, pedalboard, JACK-Client)"
	@$(PIP) install -c requirements/plugin.txt -e '.[demo,dev,plugin-tests]'
	@touch $@

$(VENV)/.train-ready: $(VENV)/.dev-ready
	@echo "installing what training and export need (torch)"
	@$(PIP) install -c requirements/train.txt -e '.[demo,dev,export,train,musicgen,parity]'
	@$(PIP) install --no-deps -c requirements/train.txt tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings \
		|| echo "no TensorRT-RTX for this platform: the tests that build its engines are skipped"
	@touch $@

demo: $(VENV)/.demo-ready  ## set up and play: demo.wav, demo.png, demo.json (ARGS="--bpm 97 --meter 7/8")
	@$(BIN)/attacca demo $(ARGS)

test: $(VENV)/.dev-ready  ## set up and run the fast tests
	@$(PYTEST) -m 'not slow and not train and not plugin' $(ARGS)

test-slow: $(VENV)/.dev-ready  ## the tests that take minutes
	@$(PYTEST) -m 'slow and not train and not plugin' --timeout 1200 $(ARGS)

test-realtime: $(VENV)/.dev-ready  ## a minute of the shipped model in real time (wants an otherwise idle machine)
	@$(PYTEST) tests/test_realtime.py --timeout 300 $(ARGS)

test-train: $(VENV)/.train-ready  ## the tests of training and export (installs torch)
	@$(PYTEST) -m 'train and not slow' --timeout 900 $(ARGS)

demo-plugin: $(VENV)/.plugin-ready plugin  ## the same in real hosts, in real time: plugin-demo.json, .png, a WAV per host
	@$(BIN)/python -m benchmarks.plugin_demo $(ARGS)

plugin:  ## build the native plugin, all formats, into build/plugin (needs cmake, ninja, g++, DPF; see docs/plugin.md)
	@DPF_SOURCE="$(DPF_SOURCE)" JOBS="$(JOBS)" plugin_stub/build.sh native build/plugin

plugin-windows:  ## the same for Windows, VST3 and CLAP, into build/plugin-windows (needs mingw-w64)
	@DPF_SOURCE="$(DPF_SOURCE)" JOBS="$(JOBS)" plugin_stub/build.sh windows build/plugin-windows

test-plugin: $(VENV)/.plugin-ready  ## test what `make plugin` built, else what needs no DPF (builds that itself)
	@$(PYTEST) tests/plugin -m 'plugin and not slow' --timeout 900 $(ARGS)

fuzz: $(VENV)/.dev-ready  ## look longer for bytes that break the plugin's wire (SECONDS=300 for each part; needs clang)
	@FUZZ_SECONDS=$(or $(SECONDS),300) $(PYTEST) tests/plugin/test_plugin_fuzz.py --timeout 0 $(ARGS)

test-all: $(VENV)/.train-ready  ## every test there is
	@$(PYTEST) --timeout 1800 $(ARGS)

lint: $(VENV)/.dev-ready typecheck  ## ruff, format (C++ too, by clang-format 14), mypy --strict
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted: make format" >&2; exit 1; }
	@case "$$(clang-format --version 2>/dev/null)" in \
	*"version 14."*) git ls-files $(CXX_FILES) | xargs clang-format --dry-run --Werror ;; \
	*) echo "C++ formatting not checked: no clang-format 14" ;; \
	esac

format: $(VENV)/.dev-ready  ## format and sort imports in place
	@$(BIN)/ruff check --quiet --select I --fix .
	@$(BIN)/ruff format --quiet .
	@! command -v clang-format >/dev/null || git ls-files $(CXX_FILES) | xargs clang-format -i

# mypy must see the folders under their imported names (attacca.engine, ...), so it reads them through links.
typecheck: $(VENV)/.dev-ready
	@mkdir -p build/typed/attacca
	@for d in engine bridge export training; do ln -sfn ../../../$$d build/typed/attacca/$$d; done
	@MYPYPATH=build/typed $(BIN)/mypy --strict --no-error-summary -p attacca.engine -p attacca.bridge

bench: $(VENV)/.demo-ready  ## measure this machine (ARGS="--quick")
	@$(BIN)/attacca bench $(ARGS)

quality: $(VENV)/.dev-ready  ## score the model on held-out songs: quality.json, quality.png (needs fluidsynth)
	@$(BIN)/python -m benchmarks.quality --json quality.json --plot quality.png $(ARGS)

train-tiny: $(VENV)/.train-ready  ## the whole recipe in minutes on a toy size, then the demo on its result
	@$(BIN)/python -m attacca.training.recipe --tiny --root runs/tiny $(ARGS)
	@$(BIN)/attacca demo --model runs/tiny/bundle --flat-out

train: $(VENV)/.train-ready  ## the full recipe, hours (ARGS=--gpu where there is one); stopped, it goes on where it was
	@$(BIN)/python -m attacca.training.recipe --root runs/ostinato $(ARGS)

docs: $(VENV)/.demo-ready  ## write the generated documents again
	@$(BIN)/python -m attacca.bridge.protocol_docs

clean:  ## remove what was built (not runs/)
	@rm -rf $(VENV) build dist *.egg-info engine/_native.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each target sets up what it needs in .venv, or in a .venv-NAME of its own for PYTHON=NAME; nothing
# but git, make and Python >= 3.11 is assumed.
PYTHON ?= python3
VENV := .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
DEMO := demo
# A few images of the demo's unseen family; the folder tells what they are.
FEW := $(foreach class,0_real 1_fake,$(DEMO)/data/labelled/test/bilinear_decoder_unseen/$(class)/0000[0-2].jpg)
# Compiled programs are kept, so that a second start is quick.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.jax_cache
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0

# What another interpreter, with its newer JAX, must pass too: one file of every kind, quick ones.
SHORT := $(addprefix tests/,data_pipelines/test_records.py data_pipelines/test_pipeline.py \
    exif_jax/test_config.py exif_jax/test_losses.py exif_jax/test_metrics.py \
    exif_jax/models/test_parity.py exif_jax/models/test_storage.py \
    exif_jax/training/test_mapping.py::test_eight_devices_train_as_one[binary] \
    exif_jax/training/test_loop.py \
    exif_jax/gmm/test_mixture.py exif_jax/detection/test_detectors.py exif_jax/cli/test_paths.py)

.PHONY: help demo demo-data demo-published test test-short lint fuzz bench shipped clean
help:
	@echo "make demo   a few verdicts, then the whole method on simulated photographs: minutes on 2 cores"
	@echo "make demo-published   the same with the published network, small: a quarter of an hour"
	@echo "make test   all tests       make lint   formatter, linter, type checker, layers, launch scripts"
	@echo "make test-short PYTHON=python3.12   a few minutes of them, with another interpreter"
	@echo "make fuzz   hostile input and interruptions, new ones every time: ten minutes"
	@echo "make shipped DATA=DIR WORK=DIR   the shipped detectors and their results again, from the images that they learned from"
	@echo "make bench  speed of prepare, the input pipeline, the model, the mixture and detect on this machine"

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

# Every step, started again after an interruption, continues or finds itself done.
demo-data: $(VENV)/installed
	$(BIN)/python -m data_pipelines.simulated --out $(DEMO)/data --labelled 80 --test 30
	$(BIN)/exif-jax prepare $(DEMO)/data/photos --out $(DEMO)/records --validation-fraction 0.2

# The three stages and what their detectors say; of the configurations $(1)_*, in the folder $(2).
define stages
	$(BIN)/python train.py --config=configs/$(1)_pretext.py \
	    --config.data.photos=$(DEMO)/records --workdir=$(2)/pretext
	$(BIN)/python train.py --config=configs/$(1)_one_class.py --config.extractor=$(2)/pretext \
	    --config.data.photos=$(DEMO)/records --workdir=$(2)/one_class
	$(BIN)/python train.py --config=configs/$(1)_binary.py --config.extractor=$(2)/pretext \
	    --config.data.images=$(DEMO)/data/labelled/train --workdir=$(2)/binary
	$(BIN)/python eval.py --config=configs/demo_evaluation.py \
	    --config.detectors=$(2)/one_class/detector,$(2)/binary/detector \
	    --config.data.images=$(DEMO)/data/labelled/test --workdir=$(2)/evaluation
	@echo; echo "Verdicts on a few simulated images (the folder tells the truth: 0_real, 1_fake):"
	@for kind in one_class binary; do echo; echo "$$kind:"; \
	    $(BIN)/exif-jax detect --detector $(2)/$$kind/detector $(FEW); done
	@echo; echo "All images above are SIMULATED. Plots: $(2)/evaluation/plots, training curves:"
	@ls $(2)/*/curves.png
endef

demo: demo-data
	@echo; echo "What the shipped detector says. No camera took these pictures, they are SIMULATED: this"
	@echo "shows what verdicts look like, not how good they are."; echo
	$(BIN)/exif-jax detect $(FEW)
	@echo; echo "Now detectors of our own, from simulated photographs:"; echo
	$(call stages,demo,$(DEMO))

demo-published: demo-data
	$(call stages,demo_published,$(DEMO)/published)

test: $(VENV)/installed-test
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test-short: $(VENV)/installed-test
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/python -m pytest --numprocesses auto --dist loadfile $(SHORT)

lint: $(VENV)/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck launch/*.sh launch/*.sbatch
	$(BIN)/hadolint launch/Dockerfile.*

# What is found is kept in finds/; SEED=N repeats a campaign.
fuzz: $(VENV)/installed-test
	$(BIN)/python -m tests.fuzzing --seconds 600 $(if $(SEED),--seed $(SEED))

bench: $(VENV)/installed-test
	$(BIN)/python benchmarks/prepare.py
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/gmm.py
	$(BIN)/python benchmarks/detect.py

# What is shipped, made again: DATA holds MANIFEST.csv, photos/ and generated/, WORK what is computed on the way.
shipped: $(VENV)/installed-test
	$(BIN)/python experiments/unseen.py --data $(DATA) --work $(WORK)
	$(BIN)/python experiments/ship.py --data $(DATA) --work $(WORK)

clean:
	rm -rf .venv .venv-* $(DEMO) .jax_cache build *.egg-info

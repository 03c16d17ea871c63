# Each target sets up what it needs in .venv, quickly when that is done already.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-portable test-flux test-browser test-package test-peers test-ecosystem test-cluster test-container lint format bench docs clean

demo: $(READY)
	$(BIN)/pyflux-transfer demo

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not flux and not browser and not package"
	$(BIN)/python -m pytest -p no:faulthandler -m flux

# The numeric tests again, as other processors would compute: AVX2, then the least there is.
PORTABLE = tests/engines/torch tests/engines/test_fake.py tests/training tests/test_predict.py
AVX2 = ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_CBWR=AVX2 OPENBLAS_CORETYPE=Haswell
LEAST = ONEDNN_MAX_CPU_ISA=SSE41 ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE OPENBLAS_CORETYPE=Prescott
PORTABLE_TEST = $(BIN)/python -m pytest -m "not flux and not slow" $(PORTABLE)

test-portable: $(READY)
	$(AVX2) OMP_NUM_THREADS=1 $(PORTABLE_TEST) -n 2
	$(LEAST) OMP_NUM_THREADS=4 $(PORTABLE_TEST)

test-flux: $(READY)
	PYFLUX_REQUIRE_JULIA=1 $(BIN)/python -m pytest -p no:faulthandler -m flux

test-package: $(READY)
	$(BIN)/python -m pytest -m package

test-browser: $(READY)
	$(BIN)/python -m pytest -m browser

# torchvision's and timm's own networks beside ours. They want a PyTorch of their own, so they have
# an environment of their own; PEERS names another one. `PYFLUX_RECORD=1 make test-peers` writes
# what the ordinary suite compares with.
PEERS ?= .venv-peers

test-peers: $(READY) $(if $(filter .venv-peers,$(PEERS)),.venv-peers/.ready)
	PYFLUX_PEERS=$(PEERS)/bin/python $(BIN)/python -m pytest -m peers tests/peers

# Frames, datasets and trackers: large libraries, in an environment of their own or in ECOSYSTEM.
ECOSYSTEM ?= .venv-ecosystem

test-ecosystem: $(if $(filter .venv-ecosystem,$(ECOSYSTEM)),.venv-ecosystem/.ready)
	PYFLUX_REQUIRE_ECOSYSTEM=1 OMP_NUM_THREADS=1 $(ECOSYSTEM)/bin/python -m pytest -W default \
		-m ecosystem tests/ecosystem tests/test_readme.py

# The image, built and run as docs/deployment.md tells. `make test-container TARGET=gpu` is the other.
CONTAINER ?= $(shell command -v podman || command -v docker)
TARGET ?= cpu

test-container: $(READY)
	@test -n "$(CONTAINER)" || { echo "Neither podman nor docker is here, so no image is built. \
	Debian: apt-get install podman buildah runc" >&2; exit 1; }
	PYFLUX_CONTAINER=$(CONTAINER) PYFLUX_TARGET=$(TARGET) $(BIN)/python -m pytest -rs -m container tests/container

# Ray and Optuna have an environment of their own, which reads the rest from this one.
test-cluster: $(READY) .venv-cluster/.ready
	OMP_NUM_THREADS=1 .venv-cluster/bin/python -m pytest -m "cluster or not cluster" tests/cluster

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/fatou format --check julia
	$(BIN)/fatou lint julia

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/fatou format julia

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

.venv-peers/.ready:
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check \
		'torch>=2.14,<2.15' 'torchvision>=0.29,<0.30' 'timm>=1.0,<1.1'
	touch $@

.venv-ecosystem/.ready: pyproject.toml constraints.txt
	test -x .venv-ecosystem/bin/python || $(PYTHON) -m venv .venv-ecosystem
	.venv-ecosystem/bin/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -e '.[dev,ecosystem]'
	touch $@

.venv-cluster/.ready: pyproject.toml $(READY)
	test -x .venv-cluster/bin/python || $(PYTHON) -m venv .venv-cluster
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> `.venv-cluster/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))"`/outer.pth
	.venv-cluster/bin/python -m pip install --quiet --disable-pip-version-check \
		'ray[data,serve,tune]>=2.40' 'optuna>=4' 'pyarrow>=16' 'fsspec>=2024.2'
	touch $@

$(VENV)/.bench: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	touch $@

$(VENV)/.docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) .venv-peers .venv-ecosystem .venv-cluster dist build site demo-output

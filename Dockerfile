# syntax=docker/dockerfile:1
# Three images of one program: `--target cpu` (PyTorch engine), `--target onnx` (ONNX Runtime, which
# answers only: a bundle is trained elsewhere), `--target gpu` (Julia on CUDA).

ARG PYTHON_IMAGE=python:3.12.11-slim-bookworm
ARG JULIA_IMAGE=julia:1.10.10-bookworm

FROM ${JULIA_IMAGE} AS julia

# --- the wheel ---------------------------------------------------------------------------------
FROM ${PYTHON_IMAGE} AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# --- what both images run on -------------------------------------------------------------------
FROM ${PYTHON_IMAGE} AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --no-create-home --home-dir /cache pyflux \
 && install -d -o pyflux -g pyflux /cache

# --- environments: built here, copied below, so that no tool of the building stays ----------------
FROM base AS cpu-build
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends binutils \
 && rm -rf /var/lib/apt/lists/*
COPY deploy/requirements-cpu.txt deploy/slim.py /tmp/
COPY --from=wheel /wheels /wheels
# Where PyTorch comes from, and nothing else: the other packages of that index are not looked at.
# What is installed is what the file lists; `pip check` says when that is not all.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Nothing can be compiled where the image is read-only, and most of PyTorch is never imported: so
# what these import is compiled.
ARG IMPORTED=pyflux_transfer.cli.app,pyflux_transfer.engines.torch.network,pyflux_transfer.serving.server
RUN python -m venv /opt/venv \
 && grep '^torch==' /tmp/requirements-cpu.txt > /tmp/torch.txt \
 && pip install --no-cache-dir --no-compile --no-deps --index-url "${TORCH_INDEX}" -r /tmp/torch.txt \
 && pip show torch > /tmp/torch.txt \
 && if grep -q nvidia /tmp/torch.txt; then echo "${TORCH_INDEX} has no CPU build" >&2; exit 1; fi \
 && pip install --no-cache-dir --no-compile --no-deps -r /tmp/requirements-cpu.txt \
 && pip install --no-cache-dir --no-compile --no-deps /wheels/*.whl \
 && pip check \
 && python /tmp/slim.py /opt/venv \
 && strip --strip-unneeded /opt/venv/lib/python3*/site-packages/torch/lib/libtorch_*.so \
 && python -m compileall -q /opt/venv/lib/python3*/site-packages/pyflux_transfer \
 && PYTHONDONTWRITEBYTECODE='' python -c "import ${IMPORTED}"

FROM base AS onnx-build
COPY deploy/requirements-onnx.txt deploy/slim.py /tmp/
COPY --from=wheel /wheels /wheels
ARG IMPORTED=pyflux_transfer.cli.predict,pyflux_transfer.classifier,pyflux_transfer.engines.onnx.network,pyflux_transfer.serving.server
RUN python -m venv /opt/venv \
 && pip install --no-cache-dir --no-compile --no-deps -r /tmp/requirements-onnx.txt \
 && pip install --no-cache-dir --no-compile --no-deps /wheels/*.whl \
 && pip check \
 && python /tmp/slim.py /opt/venv \
 && python -m compileall -q /opt/venv/lib/python3*/site-packages/pyflux_transfer \
 && PYTHONDONTWRITEBYTECODE='' python -c "import ${IMPORTED}"

FROM base AS gpu-build
COPY --from=julia /usr/local/julia /usr/local/julia
COPY deploy/requirements-gpu.txt /tmp/requirements.txt
COPY --from=wheel /wheels /wheels
# The CUDA runtime cannot be told from a driver here: there is none. So it is pinned.
ARG CUDA_RUNTIME=12.6
# Another server of Julia's packages, where that of the Julia project cannot be reached.
ARG JULIA_PKG_SERVER
# Compiled code for several generations of processors, so that the host need not compile again. It
# goes into the image's depot, instead of one in a cache folder that is not copied.
ENV PATH=/usr/local/julia/bin:$PATH \
    JULIA_DEPOT_PATH=/opt/julia-depot \
    PYFLUX_DEPOTS=/dev/null \
    JULIA_CPU_TARGET="generic;sandybridge,-xsaveopt,clone_all;haswell,-rdrnd,base(1)" \
    XDG_DATA_HOME=/opt/share \
    PYFLUX_CONFIG=/opt/share/pyflux-transfer/config.json
RUN python -m venv /opt/venv \
 && pip install --no-cache-dir --no-compile -r /tmp/requirements.txt \
 && pip install --no-cache-dir --no-deps /wheels/*.whl \
 && pip check \
 && python -m compileall -q /opt/venv
RUN mkdir -p /opt/share/pyflux-transfer/julia \
 && printf '[CUDA_Runtime_jll]\nversion = "%s"\n' "${CUDA_RUNTIME}" \
      > /opt/share/pyflux-transfer/julia/LocalPreferences.toml \
 && pyflux-transfer setup --gpu \
 && julia --project=/opt/share/pyflux-transfer/julia -e 'using CUDA; CUDA.precompile_runtime()' \
 && rm -rf /opt/julia-depot/registries /opt/julia-depot/logs /opt/julia-depot/scratchspaces \
 && chmod -R a+rX /opt/julia-depot /opt/share

# --- the images --------------------------------------------------------------------------------
FROM base AS run
ENV HOME=/cache \
    TMPDIR=/cache \
    XDG_CACHE_HOME=/cache \
    PYFLUX_CACHE=/cache/pyflux-transfer \
    PYFLUX_HOST=0.0.0.0 \
    PYFLUX_PORT=8000
USER 10001:10001
WORKDIR /cache
VOLUME /cache
EXPOSE 8000
ENTRYPOINT ["pyflux-transfer"]
CMD ["--help"]

FROM run AS gpu
COPY --from=gpu-build /usr/local/julia /usr/local/julia
COPY --from=gpu-build /opt/julia-depot /opt/julia-depot
COPY --from=gpu-build /opt/share /opt/share
COPY --from=gpu-build /opt/venv /opt/venv
# The first depot takes what Julia writes, the second is the image's own.
ENV JULIA_DEPOT_PATH=/cache/julia:/opt/julia-depot \
    PYFLUX_CONFIG=/opt/share/pyflux-transfer/config.json \
    PYFLUX_ENGINE=flux \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['PYFLUX_PORT']}/readyz\", timeout=4)"]

FROM run AS onnx
COPY --from=onnx-build /opt/venv /opt/venv
ENV PYFLUX_ENGINE=onnx
HEALTHCHECK --interval=10s --timeout=5s --start-period=1m --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['PYFLUX_PORT']}/readyz\", timeout=4)"]

# Last, so that a build without --target makes the small image.
FROM run AS cpu
COPY --from=cpu-build /opt/venv /opt/venv
ENV PYFLUX_ENGINE=torch
HEALTHCHECK --interval=10s --timeout=5s --start-period=1m --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['PYFLUX_PORT']}/readyz\", timeout=4)"]

# syntax=docker/dockerfile:1.7
# Two images from one file:
#   docker build --target gpu -t synthgen:0.1.0-gpu .    vLLM for NVIDIA GPUs; the host brings only its driver
#   docker build --target cpu -t synthgen:0.1.0-cpu .    vLLM for CPUs: demos, tests, planning
# Both hold the pins of requirements/, run as a user without privileges and start `synthgen`; KubeRay starts Ray in them.
# --build-arg BASE=…: another image of Debian 12 that has `python` 3.11 with venv and its headers (python3-dev).

ARG BASE=python:3.11.14-slim-bookworm
# hadolint ignore=DL3006
FROM ${BASE} AS base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# g++: torch.compile and Triton build kernels at run time. wget: KubeRay's probes. tini: signals reach synthgen.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ libnuma1 tini wget \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin \
 && test -f "$(python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" \
 && useradd --uid 1000 --create-home synthgen \
 && chgrp -R 0 /home/synthgen \
 && chmod -R g=u /home/synthgen
# OpenShift runs a container as a user that nobody knows, in group 0: the home is that group's.
ENV HOME=/home/synthgen
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    VLLM_NO_USAGE_STATS=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    DO_NOT_TRACK=1
ENTRYPOINT ["tini", "--", "synthgen"]
CMD ["--help"]

FROM base AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
WORKDIR /src

FROM build AS build-cpu
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
COPY requirements/cpu.lock requirements/
RUN pip install --no-deps --index-url "$TORCH_INDEX_URL" "$(grep '^torch==' requirements/cpu.lock)" \
 && pip install --no-deps -r requirements/cpu.lock
COPY pyproject.toml README.md LICENSE ./
COPY synthgen synthgen
COPY conf conf
COPY pipelines pipelines
RUN pip install --no-deps --no-build-isolation .

FROM build AS build-gpu
COPY requirements/gpu.lock requirements/
RUN pip install --no-deps -r requirements/gpu.lock
COPY pyproject.toml README.md LICENSE ./
COPY synthgen synthgen
COPY conf conf
COPY pipelines pipelines
RUN pip install --no-deps --no-build-isolation .

FROM base AS cpu
LABEL org.opencontainers.image.title="synthgen (CPU)" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build-cpu /opt/venv /opt/venv
USER 1000:1000
WORKDIR /home/synthgen

FROM base AS gpu
LABEL org.opencontainers.image.title="synthgen (NVIDIA GPU)" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
# The CUDA compiler comes as a wheel; kernels that are built at run time find it here.
ENV CUDA_HOME=/opt/venv/lib/python3.11/site-packages/nvidia/cu13 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-gpu /opt/venv /opt/venv
USER 1000:1000
WORKDIR /home/synthgen

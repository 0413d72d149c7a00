# The receiver. The first stage has a compiler, the second has not.
#
#   docker build --build-arg BASE_DIGEST=sha256:... --build-arg REVISION=$(git rev-parse HEAD) .
#
# The tag says which Python; the digest, which build of it. BASE can be any image with Python 3.11 or newer, its venv module, and apt.
ARG BASE=docker.io/library/python:3.12-slim-bookworm
ARG BASE_DIGEST=

FROM ${BASE}${BASE_DIGEST:+@${BASE_DIGEST}} AS build
SHELL ["/bin/sh", "-eu", "-c"]
# The compiler is not in what is run, so it may be the newest of the distribution.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev python3-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY constraints.txt pyproject.toml setup.py README.md ./
COPY src src
# The same versions for what is built with and what is run with.
ENV PIP_CONSTRAINT=/source/constraints.txt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/fastscp \
 && /opt/fastscp/bin/pip wheel --no-deps --wheel-dir /wheels . \
 && wheel="$(ls /wheels/fastscp-*.whl)" \
 && /opt/fastscp/bin/pip install --only-binary :all: "fastscp[fast] @ file://$wheel" \
 && /opt/fastscp/bin/pip uninstall --yes pip

FROM ${BASE}${BASE_DIGEST:+@${BASE_DIGEST}}
ARG REVISION=unknown
LABEL org.opencontainers.image.title="fastscp" \
      org.opencontainers.image.description="A DICOM Store SCP that commits every image to S3 before it says Success" \
      org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 10001 fastscp \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin fastscp
COPY --from=build /opt/fastscp /opt/fastscp
ENV PATH=/opt/fastscp/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# With a read-only root file system this is the one place to write. As a volume it keeps its mode, which lets every user write.
VOLUME ["/tmp"]
USER 10001:10001
EXPOSE 11112
# A drain: see docs/operations.md.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/livez', timeout=5)"]
ENTRYPOINT ["fastscp"]
CMD ["serve"]

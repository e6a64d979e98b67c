# The explorer for a group: docs/explorer.md tells how it is built, run and put behind a login.
FROM python:3.11-slim AS build
WORKDIR /source
RUN python -m venv /opt/pkpd
COPY requirements.lock ./
RUN /opt/pkpd/bin/python -m pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY pkpd pkpd
COPY models models
COPY benchmarks/schedules benchmarks/schedules
RUN /opt/pkpd/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
COPY --from=build /opt/pkpd /opt/pkpd
RUN useradd --uid 10001 --create-home pkpd
USER 10001
# schedule files of the group are mounted here; the server only reads them
WORKDIR /schedules
# caches of compiled code, and of ArviZ and Matplotlib, which do not load without one
ENV PATH="/opt/pkpd/bin:$PATH" PYTHONUNBUFFERED=1 XDG_CACHE_HOME=/tmp XDG_CONFIG_HOME=/tmp
EXPOSE 8765
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8765/api/alive', timeout=5)"]
ENTRYPOINT ["pkpd", "explore", "--host", "0.0.0.0", "--no-browser"]

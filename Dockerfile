# Stage 1 builds the wheel and an environment with it, by the Makefile's own steps; stage 2 only runs it.
FROM python:3.11-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN make image-env PREFIX=/opt/shunt

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10380 --home-dir /var/lib/shunt --create-home shunt
COPY --from=build /opt/shunt /opt/shunt
ENV PATH=/opt/shunt/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SHUNT_LISTEN=redis://0.0.0.0:6380 \
    SHUNT_HTTP=0.0.0.0:9380 \
    SHUNT_LOG_FORMAT=json
USER shunt
WORKDIR /var/lib/shunt
VOLUME /var/lib/shunt
EXPOSE 6380 9380
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['SHUNT_HTTP'].rsplit(':', 1)[1] + '/healthz', timeout=2)"]
ENTRYPOINT ["shunt"]
CMD ["run"]

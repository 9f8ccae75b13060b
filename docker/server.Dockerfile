# A small image of the server and the command line, run as an ordinary user.
#   docker build -f docker/server.Dockerfile -t des .
#   docker run -v des:/data -p 7420:7420 des
# Without TLS the store listens beyond loopback only when it is told so; keep the port inside a trusted network.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md ./
COPY des des
COPY server server
COPY proto proto
COPY client client
RUN pip wheel --no-cache-dir --wheel-dir /wheels ./proto ./client '.[s3,postgres,redis]'

FROM python:3.12-slim
RUN useradd --uid 10001 --create-home des && install -d -o des -m 0700 /data
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl && rm -r /wheels
USER des
ENV DES_DATA_DIR=/data DES_LISTEN=0.0.0.0:7420 DES_HTTP_LISTEN=0.0.0.0:7421 DES_LOG_FORMAT=json
VOLUME /data
EXPOSE 7420 7421
# Longer than drain_s, so that calls in flight finish.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:7421/health/ready', timeout=2)"]
CMD ["des-server", "--insecure-allow-plaintext-non-loopback"]

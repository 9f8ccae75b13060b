#!/usr/bin/env bash
# A real S3 server on this machine, for trying DES with S3 and for the tests: versitygw over a plain folder.
#
#   scripts/s3_server.sh install          builds it into .tools/go/bin (needs Go)
#   scripts/s3_server.sh run [FOLDER]     serves FOLDER (default s3-data) on 127.0.0.1:7070 until Ctrl-C
#
# ROOT_ACCESS_KEY and ROOT_SECRET_KEY are the credentials (default: des, des-secret), S3_PORT the port, S3_BUCKET
# the bucket that is made (default: des). Then, in another shell:
#
#   DES_OBJECT_STORE=s3://des DES_S3__ENDPOINT_URL=http://127.0.0.1:7070 \
#   DES_S3__ACCESS_KEY_ID=des DES_S3__SECRET_ACCESS_KEY=des-secret des serve
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
# The tests are known to pass with this one; another may be named.
version=${VERSITYGW_VERSION:-v1.8.0}
bin=${TOOLS:-$here/.tools}/go/bin

install() {
    if [ -x "$bin/versitygw" ]; then return; fi
    command -v go >/dev/null || { echo "versitygw is built with Go: install it (package golang, or https://go.dev/dl)" >&2; return 1; }
    mkdir -p "$bin"
    GOBIN=$bin GOFLAGS=-trimpath go install "github.com/versity/versitygw/cmd/versitygw@$version"
}

run() {
    install
    folder=${1:-s3-data}
    # A bucket is a folder.
    mkdir -p "$folder/${S3_BUCKET:-des}"
    export ROOT_ACCESS_KEY=${ROOT_ACCESS_KEY:-des} ROOT_SECRET_KEY=${ROOT_SECRET_KEY:-des-secret}
    metadata=()
    if ! has_attributes "$folder"; then
        mkdir -p "$folder.metadata"
        metadata=(--sidecar "$folder.metadata")
    fi
    echo "S3 on http://127.0.0.1:${S3_PORT:-7070}, bucket ${S3_BUCKET:-des}, objects in $folder" >&2
    exec "$bin/versitygw" --port "127.0.0.1:${S3_PORT:-7070}" --keep-alive --quiet posix "${metadata[@]}" "$folder"
}

has_attributes() { # has_attributes FOLDER: whether its file system keeps extended attributes
    python3 - "$1" <<'PY'
import os, sys, tempfile
with tempfile.NamedTemporaryFile(dir=sys.argv[1]) as file:
    try:
        os.setxattr(file.name, "user.des", b"x")
    except OSError:
        sys.exit(1)
PY
}

case "${1:-}" in
    install) install ;;
    run) shift; run "$@" ;;
    *) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

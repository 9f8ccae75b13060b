#!/usr/bin/env bash
# Writes the protos with all they import as one descriptor set: proto_image.sh PYTHON FILE [--plain]
# --plain: without comments and positions, a sixth of the size; enough for grpcurl -protoset.
set -euo pipefail
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
mkdir -p "$(dirname "$2")"
file=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
cd "$(dirname "$0")/../proto"
includes=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
info=--include_source_info
[ "${3:-}" = --plain ] && info=
"$python" -W ignore -m grpc_tools.protoc -I. -I"$includes" --include_imports $info \
    --descriptor_set_out="$file" des_proto/v1/*.proto

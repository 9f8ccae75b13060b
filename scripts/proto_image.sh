#!/usr/bin/env bash
# Writes the protos with all they import as one descriptor set: proto_image.sh PYTHON FILE
set -euo pipefail
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
mkdir -p "$(dirname "$2")"
file=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
cd "$(dirname "$0")/../proto"
includes=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$python" -W ignore -m grpc_tools.protoc -I. -I"$includes" --include_imports --include_source_info \
    --descriptor_set_out="$file" des_proto/v1/*.proto

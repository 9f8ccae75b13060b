#!/usr/bin/env bash
# Makes Python code and typed stubs from the protos: generate_proto.sh PYTHON OUTPUT
set -euo pipefail
python=$1
mkdir -p "$2"
output=$(cd "$2" && pwd)
PATH="$(cd "$(dirname "$python")" && pwd):$PATH"
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
cd "$(dirname "$0")/../proto"
includes=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
rm -f "$output"/des_proto/v1/*_pb2*.py "$output"/des_proto/v1/*_pb2*.pyi
"$python" -W ignore -m grpc_tools.protoc -I. -I"$includes" \
    --python_out="$output" --grpc_python_out="$output" \
    --mypy_out=quiet:"$output" --mypy_grpc_out=quiet:"$output" \
    des_proto/v1/*.proto
# Files without a service need no gRPC module.
rm -f "$output"/des_proto/v1/{types,errors}_pb2_grpc.py "$output"/des_proto/v1/{types,errors}_pb2_grpc.pyi

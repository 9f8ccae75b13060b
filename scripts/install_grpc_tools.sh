#!/usr/bin/env bash
# install_grpc_tools.sh DIR: grpcurl and grpc-health-probe into DIR, built from their Go modules.
# Needs Go; an older one fetches the toolchain that the modules ask for. What is there already is kept.
set -euo pipefail
dir=$(mkdir -p "$1" && cd "$1" && pwd)
command -v go >/dev/null || { echo "grpcurl and grpc-health-probe come as Go modules: install Go (apt-get install golang-go)" >&2; exit 1; }
export GOBIN=$dir CGO_ENABLED=0 GOFLAGS=-trimpath
[ -x "$dir/grpcurl" ] || go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3
if [ ! -x "$dir/grpc-health-probe" ]; then
    go install github.com/grpc-ecosystem/grpc-health-probe@v0.4.40
fi

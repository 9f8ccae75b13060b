#!/usr/bin/env bash
# build_examples.sh go|typescript DIR PYTHON: generates code from the protos and compiles the example of
# docs/examples in DIR. Go: needs go. TypeScript: needs npm. PYTHON has grpcio-tools, whose protoc is used.
set -euo pipefail
language=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
python=$(cd "$(dirname "$3")" && pwd)/$(basename "$3")
cd "$(dirname "$0")/.."
includes=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
protos=$(cd proto && echo des_proto/v1/*.proto)
protoc() { (cd proto && "$python" -W ignore -m grpc_tools.protoc -I. -I"$includes" "$@" $protos); }

case $language in
go)
    export GOBIN=$dir/bin CGO_ENABLED=0
    [ -x "$GOBIN/protoc-gen-go" ] || go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.6
    [ -x "$GOBIN/protoc-gen-go-grpc" ] || go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.5.1
    cp docs/examples/go/main.go docs/examples/go/go.mod "$dir"
    # The protos name no Go package: whoever generates chooses one.
    mapped=()
    for proto in $protos; do
        mapped+=("--go_opt=M$proto=example.org/des/desv1" "--go-grpc_opt=M$proto=example.org/des/desv1")
    done
    PATH=$GOBIN:$PATH protoc --go_out="$dir" --go-grpc_out="$dir" \
        --go_opt=module=example.org/des --go-grpc_opt=module=example.org/des "${mapped[@]}"
    cd "$dir"
    go mod tidy
    go vet ./...
    go build -o example .
    ;;
typescript)
    cp docs/examples/typescript/{main.ts,package.json,tsconfig.json} "$dir"
    (cd "$dir" && npm install --silent --no-fund --no-audit)
    mkdir -p "$dir/gen"
    PATH=$dir/node_modules/.bin:$PATH protoc --es_out="$dir/gen" --es_opt=target=ts,import_extension=js
    # Two imports that no package carries: made from their protos as well.
    (cd proto && PATH=$dir/node_modules/.bin:$PATH "$python" -W ignore -m grpc_tools.protoc -I. -I"$includes" \
        --es_out="$dir/gen" --es_opt=target=ts,import_extension=js google/rpc/status.proto)
    cd "$dir"
    node_modules/.bin/tsc
    ;;
*)
    echo "unknown language: $language" >&2
    exit 2
    ;;
esac

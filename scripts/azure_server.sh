#!/usr/bin/env bash
# A real Azure Blob server on this machine, for trying DES with az:// and for the tests: azurite over a plain folder.
#
#   scripts/azure_server.sh install          puts it into .tools/azurite (needs npm)
#   scripts/azure_server.sh run [FOLDER]     serves FOLDER (default azure-data) on 127.0.0.1:10000 until Ctrl-C
#
# AZURE_PORT is the port. Its one account is devstoreaccount1, whose key everyone knows; a container is made with any
# of Azure's tools. Then, in another shell:
#
#   DES_OBJECT_STORE=az://CONTAINER DES_AZURE__ENDPOINT_URL=http://127.0.0.1:10000/devstoreaccount1 \
#   DES_AZURE__ACCOUNT=devstoreaccount1 DES_AZURE__ACCOUNT_KEY=... des serve
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
# The tests are known to pass with this one; another may be named.
version=${AZURITE_VERSION:-3.37.0}
folder=${TOOLS:-$here/.tools}/azurite
bin=$folder/node_modules/.bin/azurite-blob

install() {
    if [ -x "$bin" ]; then return; fi
    command -v npm >/dev/null || { echo "azurite comes through npm: install it (package npm)" >&2; return 1; }
    mkdir -p "$folder"
    npm install --prefix "$folder" --no-audit --no-fund --loglevel=error "azurite@$version"
}

run() {
    install
    data=${1:-azure-data}
    mkdir -p "$data"
    echo "Azure Blob on http://127.0.0.1:${AZURE_PORT:-10000}/devstoreaccount1, objects in $data" >&2
    exec "$bin" --blobHost 127.0.0.1 --blobPort "${AZURE_PORT:-10000}" --location "$data" --silent --disableTelemetry \
        --skipApiVersionCheck
}

case "${1:-}" in
    install) install ;;
    run) shift; run "$@" ;;
    *) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

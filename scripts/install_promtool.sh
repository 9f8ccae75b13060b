#!/usr/bin/env bash
# promtool, which reads alert rules as Prometheus does, for tests/unit/test_alert_rules.py:
#   install_promtool.sh DIR          (DIR/bin/promtool)
# Out of Debian's package of Prometheus, which is unpacked and not installed: no daemon starts.
set -euo pipefail
[ -x "$1/bin/promtool" ] && exit 0
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || { echo "promtool comes from Debian's packages" >&2; exit 1; }
mkdir -p "$1/bin"
package=$(mktemp -d)
trap 'rm -r "$package"' EXIT
chmod 755 "$package" # apt downloads as a user of its own
(
    cd "$package"
    apt-get download -qq prometheus 2>/dev/null || { apt-get update -qq && apt-get download -qq prometheus; }
) >&2
dpkg-deb --fsys-tarfile "$package"/prometheus_*.deb | tar -x -O ./usr/bin/promtool >"$1/bin/promtool.part"
chmod 755 "$1/bin/promtool.part"
mv "$1/bin/promtool.part" "$1/bin/promtool"

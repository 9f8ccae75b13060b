#!/usr/bin/env bash
# run.sh PYTHON TARGET SECONDS FOUND: fuzz one target from its corpus and what was found before.
# Prints its figures; on a failure the end of its output, and fails. A crash is kept in FOUND.
set -euo pipefail
python=$1 target=$2 seconds=$3 found=$4
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$found/$target"
log="$found/$target.log"
if "$python" "$here/fuzz.py" "$target" -max_total_time="$seconds" -rss_limit_mb=1024 -timeout=10 \
    -print_final_stats=1 -artifact_prefix="$found/$target-" "$found/$target" "$here/corpus/$target" >"$log" 2>&1
then
    echo "fuzz $target: $(grep -aE '^(stat::number_of_executed_units|stat::peak_rss_mb)' "$log" | tr -s ' \n' ' ')"
else
    echo "fuzz $target: FAILED, see $log" >&2
    tail -60 "$log" >&2
    exit 1
fi

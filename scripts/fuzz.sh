#!/usr/bin/env bash
# fuzz.sh [FOLDER...]: runs every fuzz target below the folders (all) for
# SECONDS_EACH (30) seconds. Little of that goes into making an input that is
# merely interesting shorter: by itself, go test spends up to a minute on each.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${SECONDS_EACH:-30}
globs=('*_test.go')
[ $# -eq 0 ] || globs=("${@/%//*_test.go}")
n=0
while IFS=: read -r file target; do
  n=$((n + 1))
  go test -tags nobadger,nobadgerv1,nobadgerv2,nomysql,nopgx -run '^$' -fuzz "^$target\$" -fuzztime "${seconds}s" -fuzzminimizetime 10x "./$(dirname "$file")"
done < <(git grep -E '^func Fuzz' -- "${globs[@]}" | sed -E 's/^([^:]+):func (Fuzz[A-Za-z0-9_]+).*/\1:\2/')
[ "$n" -gt 0 ] || { echo "no fuzz target found" >&2; exit 1; }

#!/usr/bin/env bash
# fuzz.sh: runs every fuzz target of the repository for SECONDS each (30).
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${SECONDS_EACH:-30}
n=0
while IFS=: read -r file target; do
  n=$((n + 1))
  go test -tags nobadger,nobadgerv1,nobadgerv2,nomysql,nopgx -run '^$' -fuzz "^$target\$" -fuzztime "${seconds}s" "./$(dirname "$file")"
done < <(git grep -E '^func Fuzz' -- '*_test.go' | sed -E 's/^([^:]+):func (Fuzz[A-Za-z0-9_]+).*/\1:\2/')
[ "$n" -gt 0 ] || { echo "no fuzz target found" >&2; exit 1; }

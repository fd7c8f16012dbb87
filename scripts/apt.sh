#!/usr/bin/env bash
# apt.sh PACKAGE...: installs the Debian packages that are missing, quietly.
# Starts none of the services that are in them. Does nothing, and asks for no privilege, when all of them are there.
set -euo pipefail
missing=()
for p in "$@"; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q '^install ok installed' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
  echo "patchbay: these Debian packages are missing; install them as root and try again:" >&2
  echo "  apt-get install -y --no-install-recommends ${missing[*]}" >&2
  exit 3
fi
echo "installing ${missing[*]}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi

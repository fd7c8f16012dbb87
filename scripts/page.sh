#!/usr/bin/env bash
# page.sh: copies what admin/page/package.json names from npm's packages into
# admin/page/vendor, which is embedded, and admin/page/testdata.
set -euo pipefail
cd "$(dirname "$0")/../admin/page"
command -v npm >/dev/null || ../../scripts/apt.sh npm
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp package.json "$work"
(cd "$work" && npm install --silent --ignore-scripts --no-audit --no-fund)
m=$work/node_modules
cp "$m/cytoscape/dist/cytoscape.min.js" "$m/uplot/dist/uPlot.iife.min.js" "$m/uplot/dist/uPlot.min.css" vendor/
# Without the source map's name, which a browser would ask for.
sed -e '/^\/\/# sourceMappingURL/d' -e 's#^/\*! For license.*#/*! dagre: see LICENSE.dagre */#' "$m/@dagrejs/dagre/dist/dagre.min.js" > vendor/dagre.min.js
cp "$m/cytoscape/LICENSE" vendor/LICENSE.cytoscape
cp "$m/uplot/LICENSE" vendor/LICENSE.uplot
cp "$m/@dagrejs/dagre/LICENSE" vendor/LICENSE.dagre
cp "$m/axe-core/axe.min.js" testdata/
cp "$m/axe-core/LICENSE" testdata/LICENSE.axe-core

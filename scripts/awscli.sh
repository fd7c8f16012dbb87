#!/usr/bin/env bash
# awscli.sh: puts the pinned AWS CLI at .tools/aws/aws. Debian's is older than
# what the guides and the tests ask of it. Does nothing when it is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
. ./versions.env
cli=.tools/aws/aws
if [ -x "$cli" ] && "$cli" --version 2>/dev/null | grep "aws-cli/$AWSCLI_VERSION " >/dev/null; then exit 0; fi
echo "fetching AWS CLI $AWSCLI_VERSION" >&2
rm -rf .tools/aws
mkdir -p .tools/aws
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target .tools/aws/lib "awscli==$AWSCLI_VERSION"
cat > "$cli" <<END
#!/bin/sh
PYTHONPATH='$PWD/.tools/aws/lib' exec '$(command -v python3)' -m awscli "\$@"
END
chmod 755 "$cli"
"$cli" --version | grep "aws-cli/$AWSCLI_VERSION " >/dev/null || { echo "patchbay: $cli is not $AWSCLI_VERSION" >&2; exit 1; }

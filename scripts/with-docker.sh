#!/usr/bin/env bash
# Runs a command with a throwaway Docker engine: scripts/with-docker.sh CMD ARGS...
# Exports POCKETCI_TEST_DOCKER_HOST and POCKETCI_TEST_IMAGE (a busybox made from the local binary; no registry is asked).
# With POCKETCI_DOCKER_NETWORK=bridge containers get a network, for compose.
set -euo pipefail

[ "$(id -u)" -eq 0 ] || { echo "error: starting a Docker engine needs root: run this as root or with sudo" >&2; exit 1; }
command -v dockerd >/dev/null 2>&1 || { echo "error: dockerd is missing: run scripts/prerequisites.sh test" >&2; exit 1; }
home=$(mktemp -d /tmp/pocketci-docker.XXXXXX)
pid=
cleanup() {
  if [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; then
    docker -H "unix://$home/docker.sock" ps -aq 2>/dev/null |
      xargs -r docker -H "unix://$home/docker.sock" rm -f >/dev/null 2>&1 || true
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  fi
  grep -o " $home[^ ]*" /proc/mounts | sort -r | xargs -r umount -l 2>/dev/null || true
  rm -rf "$home" 2>/dev/null || true
}
trap cleanup EXIT
trap 'exit 130' INT TERM

network=(--bridge=none --iptables=false --ip6tables=false)
[ "${POCKETCI_DOCKER_NETWORK:-none}" = bridge ] && network=(--bip=172.31.199.1/24)
started=
for driver in overlay2 vfs; do
  dockerd --data-root "$home/data" --exec-root "$home/exec" --pidfile "$home/pid" -H "unix://$home/docker.sock" \
    --storage-driver "$driver" "${network[@]}" >"$home/log" 2>&1 &
  pid=$!
  for _ in $(seq 150); do
    if docker -H "unix://$home/docker.sock" info >/dev/null 2>&1; then started=1; break; fi
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.2
  done
  [ -n "$started" ] && break
  kill "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
done
[ -n "$started" ] || { echo "error: the Docker engine did not start; the end of its log:" >&2; tail -n 20 "$home/log" >&2; exit 1; }

export POCKETCI_TEST_DOCKER_HOST="unix://$home/docker.sock"
export POCKETCI_TEST_IMAGE=pocketci-test/busybox:1
busybox=$(command -v busybox || true)
if [ -n "$busybox" ]; then
  root=$home/root
  mkdir -p "$root/bin" "$root/tmp" "$root/etc"
  chmod 1777 "$root/tmp"
  cp "$busybox" "$root/bin/busybox"
  for applet in $("$busybox" --list); do ln -sf busybox "$root/bin/$applet" 2>/dev/null || true; done
  rm -f "$root/bin/busybox"; cp "$busybox" "$root/bin/busybox"
  printf 'root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$root/etc/passwd"
  tar -C "$root" -c . | docker -H "$POCKETCI_TEST_DOCKER_HOST" import - "$POCKETCI_TEST_IMAGE" >/dev/null
  # The name that the examples use.
  docker -H "$POCKETCI_TEST_DOCKER_HOST" tag "$POCKETCI_TEST_IMAGE" busybox:latest
fi
"$@"

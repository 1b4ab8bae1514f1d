#!/usr/bin/env bash
# Proves docker-compose.yml where no image registry can be reached: stand-ins for the base images are made locally under
# the same tags, the stack is started, a signed webhook at server A is answered by agent B alone.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${POCKETCI_TEST_DOCKER_HOST:-}" ]; then
  scripts/prerequisites.sh compose
  cargo build --locked --release -p pocketci
  POCKETCI_DOCKER_NETWORK=bridge exec scripts/with-docker.sh "$0"
fi
export DOCKER_HOST=$POCKETCI_TEST_DOCKER_HOST
export POCKETCI_TEST_SOCKET=${POCKETCI_TEST_DOCKER_HOST#unix://}
export DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0
home=$(mktemp -d)
compose() { docker-compose -p pocketci-test -f docker-compose.yml -f tests/compose/docker-compose.offline.yml "$@"; }
cleanup() {
  compose down -v --remove-orphans >/dev/null 2>&1 || true
  rm -rf "$home"
}
trap cleanup EXIT

echo "making debian:bookworm-slim and postgres:15 from Debian's packages …"
debootstrap --variant=minbase --include=postgresql-15 bookworm "$home/root" >"$home/log" 2>&1 ||
  { echo "error: debootstrap failed:" >&2; tail "$home/log" >&2; exit 1; }
cp tests/compose/postgres-entrypoint.sh "$home/root/entrypoint.sh"
chmod 755 "$home/root/entrypoint.sh"
tar -C "$home/root" -c . | docker import - debian:bookworm-slim >/dev/null
tar -C "$home/root" -c . | docker import -c 'ENTRYPOINT ["/entrypoint.sh"]' - postgres:15 >/dev/null

compose build -q server-a
compose up -d
url=http://127.0.0.1:8080
for _ in $(seq 300); do
  if curl -sf "$url/readyz" >/dev/null && curl -sf http://127.0.0.1:8081/readyz >/dev/null; then ready=1; break; fi
  sleep 0.2
done
[ -n "${ready:-}" ] || { compose logs; echo "error: the servers are not ready" >&2; exit 1; }
export CI_SERVER_URL=$url CI_AUTH_TOKEN=dev-auth-token
pocketci=target/release/pocketci
for _ in $(seq 150); do
  if [ "$("$pocketci" agents ls | grep -c connected)" = 2 ]; then connected=1; break; fi
  sleep 0.2
done
[ -n "${connected:-}" ] || { compose logs; echo "error: the agents are not connected" >&2; exit 1; }
"$pocketci" set-pipeline examples/github-webhook.ts --driver docker --webhook-secret compose | tee "$home/set"
webhook=$(sed -n 's/^webhook: //p' "$home/set")
body=examples/payloads/github-push.json
signature=$(openssl dgst -sha256 -hmac compose <"$body" | sed 's/.*= //')
answer() {
  curl -sS -X POST "$webhook" -H 'X-GitHub-Event: push' -H "X-Hub-Signature-256: sha256=$signature" --data-binary "@$body"
}
[ "$(answer)" = '{"accepted":true,"event":"push"}' ]
run=$("$pocketci" runs ls --json --limit 1 | sed -n 's/^ *"id": "\(.*\)",$/\1/p' | head -n 1)
"$pocketci" logs "$run" -f
compose stop agent-a
[ "$(answer)" = '{"accepted":true,"event":"push"}' ]
"$pocketci" runs ls
echo "compose: a webhook at server A was answered by the agent at server B"

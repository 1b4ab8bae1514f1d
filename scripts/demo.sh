#!/usr/bin/env bash
# The main job, shown: a signed GitHub push is answered by a pipeline that goes on building. KEEP=1 keeps the server.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/prerequisites.sh demo
echo "building (the first time takes some minutes) …"
cargo build --locked -p pocketci
pocketci=${CARGO_TARGET_DIR:-target}/debug/pocketci
home=$(mktemp -d)
pid=
cleanup() {
  if [ -n "$pid" ]; then kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; fi
  rm -rf "$home"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

"$pocketci" server --port "${PORT:-0}" --grpc-port 0 --storage "sqlite://$home/pocketci.db" 2>"$home/log" &
pid=$!
for _ in $(seq 100); do
  url=$(sed -n 's/^listening on //p' "$home/log")
  if [ -n "$url" ] && curl -sf "$url/readyz" >/dev/null && "$pocketci" agents ls --server "$url" | grep -q connected; then break; fi
  kill -0 "$pid" 2>/dev/null || { echo "error: the server did not start:" >&2; cat "$home/log" >&2; exit 1; }
  sleep 0.1
done
[ -n "$url" ] || { echo "error: the server did not say where it listens:" >&2; cat "$home/log" >&2; exit 1; }
export CI_SERVER_URL=$url

secret=demo-secret
echo
echo "\$ pocketci set-pipeline examples/github-webhook.ts --driver native --webhook-secret $secret"
"$pocketci" set-pipeline examples/github-webhook.ts --driver native --webhook-secret "$secret" | tee "$home/set"
webhook=$(sed -n 's/^webhook: //p' "$home/set")

body=examples/payloads/github-push.json
signature=$(openssl dgst -sha256 -hmac "$secret" <"$body" | sed 's/.*= //')
echo
echo "\$ curl -X POST $webhook -H 'X-GitHub-Event: push' -H 'X-Hub-Signature-256: sha256=$signature' --data-binary @$body"
curl -sS -i -X POST "$webhook" -H 'Content-Type: application/json' -H 'X-GitHub-Event: push' \
  -H "X-Hub-Signature-256: sha256=$signature" --data-binary "@$body" | tr -d '\r' | tee "$home/answer"
echo
grep -q '^HTTP/1.1 200' "$home/answer" && grep -q '"accepted":true' "$home/answer" ||
  { echo "error: that is not what the pipeline answers" >&2; exit 1; }

run=$("$pocketci" runs ls --json --limit 1 | sed -n 's/^ *"id": "\(.*\)",$/\1/p' | head -n 1)
echo
echo "\$ pocketci logs $run -f"
"$pocketci" logs "$run" -f

echo
echo "The server answers at $url; go on with:"
echo "  export CI_SERVER_URL=$url"
echo "  $pocketci runs show $run"
echo "  $pocketci set-pipeline my-pipeline.ts --driver native --webhook-secret my-secret"
if [ "${KEEP:-}" = 1 ]; then
  echo "It runs until you press Ctrl-C."
  wait "$pid"
else
  echo "It ends now; 'make demo KEEP=1' keeps it running."
fi

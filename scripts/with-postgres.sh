#!/usr/bin/env bash
# Runs a command with a throwaway PostgreSQL: scripts/with-postgres.sh CMD ARGS...
# Exports POCKETCI_TEST_POSTGRES, the URL of a superuser; the cluster is removed afterwards, however the command ends.
set -euo pipefail

bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$bin" ] || { echo "error: PostgreSQL is missing: run scripts/prerequisites.sh" >&2; exit 1; }
home=$(mktemp -d /tmp/pocketci-pg.XXXXXX)
as_owner() { "$@"; }
if [ "$(id -u)" -eq 0 ]; then
  # PostgreSQL refuses to run as root.
  chown postgres "$home"
  as_owner() { runuser -u postgres -- "$@"; }
fi
cleanup() {
  as_owner "$bin/pg_ctl" -D "$home/data" -m immediate -w stop >/dev/null 2>&1 || true
  rm -rf "$home"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

cd "$home"
as_owner "$bin/initdb" -D "$home/data" -U postgres -A trust -E UTF8 --locale=C >/dev/null
port=0
for _ in 1 2 3 4 5; do
  port=$((20000 + RANDOM % 20000))
  if as_owner "$bin/pg_ctl" -D "$home/data" -l "$home/log" -w -t 30 \
    -o "-c listen_addresses=127.0.0.1 -p $port -k $home -c max_connections=400 ${POCKETCI_POSTGRES_OPTIONS:-}" start >/dev/null 2>&1; then
    break
  fi
  port=0
done
[ "$port" -ne 0 ] || { echo "error: PostgreSQL did not start:" >&2; cat "$home/log" >&2; exit 1; }
cd "$OLDPWD"
export POCKETCI_TEST_POSTGRES="postgres://postgres@127.0.0.1:$port/postgres"
export POCKETCI_TEST_POSTGRES_PID
POCKETCI_TEST_POSTGRES_PID=$(head -n 1 "$home/data/postmaster.pid")
"$@"

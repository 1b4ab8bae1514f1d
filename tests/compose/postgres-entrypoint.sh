#!/bin/sh
# Stands in for the official image's entry point in the compose test: user, password and database from the environment.
set -e
data=/var/lib/postgresql/data
bin=$(ls -d /usr/lib/postgresql/*/bin)
mkdir -p "$data" && chown postgres "$data" && chmod 700 "$data"
if [ ! -s "$data/PG_VERSION" ]; then
  echo "$POSTGRES_PASSWORD" >/tmp/password && chown postgres /tmp/password
  su postgres -c "$bin/initdb -D $data -U $POSTGRES_USER --pwfile=/tmp/password -A scram-sha-256" >/dev/null
  echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
  su postgres -c "$bin/pg_ctl -D $data -w -o '-c listen_addresses= -k /tmp' start"
  su postgres -c "PGPASSWORD=$POSTGRES_PASSWORD psql -h /tmp -U $POSTGRES_USER -d postgres -c 'CREATE DATABASE $POSTGRES_DB'"
  su postgres -c "$bin/pg_ctl -D $data -w stop"
fi
exec su postgres -c "exec $bin/postgres -D $data -c listen_addresses='*' -k /tmp"

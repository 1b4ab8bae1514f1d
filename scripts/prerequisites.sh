#!/usr/bin/env bash
# Installs what is missing for tests and benchmarks, through apt, when root or with sudo; otherwise says what is missing.
# Usage: scripts/prerequisites.sh [test|demo|bench|compose]...
set -euo pipefail

need=()
want() { # want COMMAND PACKAGE
  command -v "$1" >/dev/null 2>&1 || need+=("$2")
}

command -v cargo >/dev/null 2>&1 || { echo "error: Rust is missing: install it with rustup (stable toolchain)" >&2; exit 1; }

# The C parts of QuickJS and SQLite are compiled from source.
want cc gcc
for purpose in "${@:-test}"; do
  case "$purpose" in
    demo) want openssl openssl; want curl curl ;;
    test | bench)
      want git git; want ssh openssh-client
      compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || need+=(postgresql)
      if [ "$purpose" = test ]; then
        want dockerd docker.io
        want tsc node-typescript
        [ -x /bin/busybox ] || [ -x /usr/bin/busybox ] || need+=(busybox-static)
        for component in rustfmt cargo-clippy; do
          command -v "$component" >/dev/null 2>&1 ||
            { echo "error: $component is missing: rustup component add rustfmt clippy" >&2; exit 1; }
        done
      else
        want webhook webhook
      fi
      ;;
    compose) want dockerd docker.io; want docker-compose docker-compose; want debootstrap debootstrap; want curl curl; want openssl openssl ;;
    *) echo "error: unknown purpose $purpose" >&2; exit 2 ;;
  esac
done

[ ${#need[@]} -eq 0 ] && exit 0
sudo=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null ||
    { echo "error: missing packages: ${need[*]}; install them, or run this as root or with password-less sudo" >&2; exit 1; }
  sudo=(sudo -n)
fi
command -v apt-get >/dev/null 2>&1 ||
  { echo "error: missing packages: ${need[*]}; there is no apt-get here, install them by hand" >&2; exit 1; }
echo "installing: ${need[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq >&2
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >&2

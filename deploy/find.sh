# Sourced by stack.sh and install.sh: the PostgreSQL and the Java of this machine.
# shellcheck shell=bash

java_major() { "$1" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1; }

# The newest Java from 17 on, unless JAVA_HOME names one; fails if there is none.
find_java() {
  local candidate major best='' best_major=0 candidates=("$(command -v java || true)" /usr/lib/jvm/*/bin/java)
  if [ -n "${JAVA_HOME:-}" ]; then candidates=("$JAVA_HOME/bin/java"); fi
  for candidate in "${candidates[@]}"; do
    [ -x "$candidate" ] || continue
    major=$(java_major "$candidate")
    if ((${major:-0} > best_major)); then best=$candidate best_major=$major; fi
  done
  ((best_major >= 17)) || return 1
  echo "$best"
}

postgres_major() { "$1/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/'; }

# The directory of the newest PostgreSQL server from 14 on, unless PGBIN names one (Debian keeps it out of PATH); fails
# if there is none.
find_postgres() {
  local candidate major best='' best_major=0 candidates
  candidates=(/usr/lib/postgresql/*/bin "$(dirname "$(command -v postgres || true)")")
  if [ -n "${PGBIN:-}" ]; then candidates=("$PGBIN"); fi
  for candidate in "${candidates[@]}"; do
    if ! [ -x "$candidate/postgres" ] || ! [ -x "$candidate/initdb" ]; then continue; fi
    major=$(postgres_major "$candidate")
    if ((major > best_major)); then best=$candidate best_major=$major; fi
  done
  ((best_major >= 14)) || return 1
  echo "$best"
}

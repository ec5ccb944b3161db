#!/usr/bin/env bash
# Four apps with databases of their own, kept in agreement before your eyes:
#
#   deploy/demo.sh           install what is missing, build, start everything, show it, clean up
#   deploy/demo.sh --keep    the same, and leave it running
#   deploy/demo.sh --stop    end what was left running
#
# Needs cargo (rustup) and, to install what is missing, apt. Exit code 0 only if every figure is as it must be. It runs
# in a directory and on ports of its own, so it disturbs nothing: SYNCLINE_DEMO_DIR, and PG_PORT, KAFKA_PORT, REGISTRY_PORT.
set -euo pipefail
shopt -s inherit_errexit

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
STACK=$ROOT/deploy/stack.sh
export SYNCLINE_DEMO_DIR=${SYNCLINE_DEMO_DIR:-${TMPDIR:-/tmp}/syncline-demo}
export SYNCLINE_STACK_DIR=$SYNCLINE_DEMO_DIR/stack
DEMO_SECONDS_MAX=${DEMO_SECONDS_MAX:-600}
KEEP=0

say() { echo "demo.sh: $*" >&2; }

usage() { sed -n '2,/^# in a directory/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Four free neighbours (PostgreSQL, Kafka, its controller, the registry), unless the environment says which.
choose_ports() {
  local base port taken
  if [ -n "${PG_PORT:-}${KAFKA_PORT:-}${REGISTRY_PORT:-}" ]; then return; fi
  for base in $(seq 27400 10 27900); do
    taken=0
    for port in "$base" $((base + 1)) $((base + 2)) $((base + 3)); do if answers "$port"; then taken=1; fi; done
    if [ "$taken" = 0 ]; then
      export PG_PORT=$base KAFKA_PORT=$((base + 1)) REGISTRY_PORT=$((base + 3))
      return
    fi
  done
  say "no four free ports in a row between 27400 and 27900; set PG_PORT, KAFKA_PORT, REGISTRY_PORT"
  return 1
}

# A demo that was left running, or was killed, is ended by the ids that it wrote down itself.
end_services() {
  local pid
  [ -f "$SYNCLINE_DEMO_DIR/pids" ] || return 0
  while read -r pid; do
    if [[ $(readlink "/proc/$pid/exe" 2>/dev/null) == "$ROOT"/target/*/syncline-* ]]; then kill -KILL "$pid" 2>/dev/null || true; fi
  done <"$SYNCLINE_DEMO_DIR/pids"
  rm -f "$SYNCLINE_DEMO_DIR/pids"
}

clean_up() {
  local code=$?
  if [ "$KEEP" = 1 ] && [ "$code" = 0 ]; then
    say "stop it with: deploy/demo.sh --stop"
  elif [ "$code" = 0 ]; then
    end_all
  else
    end_services
    "$STACK" down || true
    say "failed (exit code $code); logs and databases are in $SYNCLINE_DEMO_DIR"
  fi
}

end_all() {
  end_services
  "$STACK" destroy
  rm -rf "${SYNCLINE_DEMO_DIR:?}"/acme-*
  rmdir --ignore-fail-on-non-empty "$SYNCLINE_DEMO_DIR" 2>/dev/null || true
}

main() {
  case ${1:-} in
    '') ;;
    --keep) KEEP=1 ;;
    --stop) end_all; exit 0 ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  "$ROOT/deploy/install.sh"
  cd "$ROOT"
  say "building (the first time takes some minutes)"
  cargo build --workspace --bins --locked
  end_all
  mkdir -p "$SYNCLINE_DEMO_DIR"
  trap clean_up EXIT
  choose_ports
  "$STACK" up
  eval "$("$STACK" env)"
  if [ "$KEEP" = 1 ]; then export SYNCLINE_DEMO_KEEP=1; fi
  timeout --foreground --kill-after=30 "$DEMO_SECONDS_MAX" "${CARGO_TARGET_DIR:-$ROOT/target}/debug/syncline-demo"
}

main "$@"

#!/usr/bin/env bash
# Benchmarks on this machine, against its limits and, with --peer, against Debezium and its JDBC sink:
#
#   tests/bench.sh [CASE]... [--peer] [--rows N] [--runs N] [--warm-up N] [--seconds N] [--quiet-seconds N]
#                  [--outage-seconds N] [--soak-minutes N] [--soak-rows-per-s N] [--entities N] [--out FILE]
#
#   capture/{insert_1,insert_100,insert_10000,insert_all,update_100,update_full_100,delete_100}   a backlog, to Kafka
#   snapshot/{1,2}                             a table read by one connection and by two
#   restart                                    SIGKILL in the middle: until records flow again, and what came twice
#   idle                                       capture with 1,000 quiet tables
#   sink/{new_keys,existing_keys,existing_random}
#   latency, end_to_end                        commit to readable record; commit to commit in a replica
#   agreement                                  commit in one app to commit in two others, mapped and merged
#   merge/{words,contested}                    merge by itself, its local store, and a restart from it
#   growth/{tables_*,width_*,transaction,partitions_*,instances,broker_stopped,sink_paused,soak}
#
# The first part of a name means all of that part (growth/tables: all numbers of tables), none means all but growth/soak, which
# takes half an hour and has to be named. Installs what is missing, builds the release binaries, brings up a stack of its own and
# deletes it again. Each run is a line of JSON in FILE (bench.jsonl), also one that fails; the others go on. From it
# `target/release/syncline-bench report FILE [--svg DIR]` makes tables, what is held of what must be, and pictures.
# With SYNCLINE_BIN_DIR the binaries there are used and nothing is built.
# Leave the machine alone meanwhile: a run in which others were at work is repeated and, if that does not help, marked.
set -euo pipefail
shopt -s inherit_errexit

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
STACK=$ROOT/deploy/stack.sh
# shellcheck source=deploy/find.sh
. "$ROOT/deploy/find.sh"

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

choose_ports() {
  local base port taken
  for base in $(seq 26400 10 26900); do
    taken=0
    for port in "$base" $((base + 1)) $((base + 2)) $((base + 3)); do if answers "$port"; then taken=1; fi; done
    if [ "$taken" = 0 ]; then export PG_PORT=$base KAFKA_PORT=$((base + 1)) REGISTRY_PORT=$((base + 3)); return; fi
  done
  echo "bench.sh: no four free ports in a row between 26400 and 26900" >&2
  return 1
}

main() {
  case ${1:-} in -h | --help) sed -n '2,/^# Leave/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;; esac
  cd "$ROOT"
  case " $* " in *" --peer "*) deploy/install.sh --peers ;; *) deploy/install.sh ;; esac
  if [ -z "${SYNCLINE_BIN_DIR:-}" ]; then cargo build --workspace --bins --release --locked; fi
  export SYNCLINE_STACK_DIR=${TMPDIR:-/tmp}/syncline-bench-stack
  "$STACK" destroy 2>/dev/null || true
  trap '"$STACK" destroy' EXIT
  choose_ports
  # As they are run in earnest: memory, and all of the compiler.
  export KAFKA_HEAP=1g CONNECT_HEAP_MB=2048 CONNECT_JAVA_OPTIONS=-XX:+UseG1GC
  "$STACK" up
  eval "$("$STACK" env)"
  PGBIN=$(find_postgres)
  export PGBIN SYNCLINE_BIN_DIR=${SYNCLINE_BIN_DIR:-${CARGO_TARGET_DIR:-$ROOT/target}/release}
  unset PG_PORT # the benchmark's own servers choose theirs
  "$SYNCLINE_BIN_DIR/syncline-bench" run "$@"
}

main "$@"

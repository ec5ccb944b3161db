#!/usr/bin/env bash
# Every test of the workspace, the whole-system ones included, against a stack of its own:
#
#   tests/run.sh [--keep] [ARGUMENT OF CARGO TEST]...
#
# Installs what is missing, brings up PostgreSQL, Kafka and the registry on free ports, builds the binaries, runs
# `cargo test --workspace` and deletes the stack again, whatever happened; --keep leaves it for the next run. The exit
# code is that of cargo test. SYNCLINE_TEST_STACK_DIR: where that stack lives, else a directory for this checkout.
set -euo pipefail
shopt -s inherit_errexit

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
STACK=$ROOT/deploy/stack.sh
TEST_SECONDS_MAX=${TEST_SECONDS_MAX:-4200}
# Whole-system tests mostly wait for others; so many at once keep two cores busy.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-4}
# The suite that mostly waits, beside which the others run one after the other; and those that want the machine for themselves (JVMs, loads).
LONGEST=system
ALONE=(agreement brokers crash)
KEEP=0
LOGS=''

say() { echo "run.sh: $*" >&2; }

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Four neighbours: PostgreSQL, Kafka, its controller, the registry. Below what the kernel gives to clients and apart
# from the defaults of stack.sh.
choose_ports() {
  local base port taken
  for _ in $(seq 50); do
    base=$((20000 + RANDOM % 5000)) taken=0
    for port in $((base)) $((base + 1)) $((base + 2)) $((base + 3)); do
      if answers "$port"; then taken=1; fi
    done
    if [ "$taken" = 0 ]; then
      export PG_PORT=$base KAFKA_PORT=$((base + 1)) REGISTRY_PORT=$((base + 3))
      return
    fi
  done
  say "found no four free ports in a row between 20000 and 25000"
  return 1
}

stack_up() {
  export SYNCLINE_STACK_DIR=$1
  # A stack that is there remembers its ports; ours may name another one.
  unset PG_PORT KAFKA_PORT REGISTRY_PORT
  if ! "$STACK" status >/dev/null 2>&1; then
    "$STACK" destroy 2>/dev/null || true
    choose_ports
    # Nobody kills this broker: however long the disk of a busy machine stands still, it is not dead.
    KAFKA_SESSION_MS=60000 "$STACK" up 8<&-
  fi
  eval "$("$STACK" env)"
}

clean_up() {
  if [ -n "$LOGS" ]; then rm -rf "$LOGS"; fi
  if [ "$KEEP" = 1 ]; then
    say "the stack stays; delete it with: SYNCLINE_STACK_DIR=$SYNCLINE_STACK_DIR deploy/stack.sh destroy"
  else
    "$STACK" destroy || say "the stack in $SYNCLINE_STACK_DIR could not be deleted"
  fi
}

# A checkout has one stack for its tests, and one build directory: runs in it take turns, by a lock on this file.
alone() {
  exec 8<"$ROOT/tests/run.sh"
  if flock --nonblock 8; then return; fi
  say "another run is at work in this checkout; waiting for it"
  flock --timeout "$TEST_SECONDS_MAX" 8
}

# A person can interrupt, a machine cannot; and timeout takes the keyboard from what it runs.
bounded() { if [ -t 0 ]; then "$@"; else timeout --kill-after=30 "$TEST_SECONDS_MAX" "$@"; fi; }

# One line a suite from the output of cargo test; a suite that crashed has said nothing, which must not look like success.
summary() {
  awk '
    function unfinished() { if (suite != "") print suite ": no result, the suite crashed" }
    /^ +Running / { unfinished(); suite = $NF; gsub(/^.*\/|-[0-9a-f]+\)$/, "", suite); if ($2 == "unittests") suite = suite " (" $3 ")" }
    /^ +Doc-tests / { unfinished(); suite = $2 " (doc tests)" }
    /^test result: / { print (suite == "" ? "" : suite ": ") $0; suite = "" }
    END { unfinished() }
  ' "$1"
}

# The names of all suites.
suites() {
  local file
  for file in */tests/*.rs */tests/*/main.rs; do
    file=${file%/main.rs}
    basename "$file" .rs
  done
}

run() { CARGO_TERM_COLOR=never bounded cargo test --workspace --locked --no-fail-fast "$@" 8<&- 2>&1; }

# The suites in two lanes. The second gives way: it computes where the first waits.
run_all() {
  local suite others=() status=0
  for suite in $(suites); do
    case " $LONGEST ${ALONE[*]} " in *" $suite "*) ;; *) others+=(--test "$suite") ;; esac
  done
  (
    renice --priority 10 "$BASHPID" >/dev/null
    others_status=0
    run --lib --bins "${others[@]}" || others_status=$?
    run --doc || others_status=$?
    exit "$others_status"
  ) >"$LOGS/1" &
  run --test "$LONGEST" | tee "$LOGS/2" || status=$?
  wait $! || status=$?
  cat "$LOGS/1"
  run "${ALONE[@]/#/--test=}" | tee "$LOGS/3" || status=$?
  return "$status"
}

main() {
  local log status=0
  if [ "${1:-}" = --keep ]; then KEEP=1; shift; fi
  cd "$ROOT"
  deploy/install.sh --tests
  alone
  LOGS=$(mktemp -d)
  export SYNCLINE_STACK_DIR=${SYNCLINE_TEST_STACK_DIR:-${TMPDIR:-/tmp}/syncline-tests-$(echo "$ROOT" | sha256sum | cut -c 1-8)}
  trap clean_up EXIT
  trap 'exit 130' INT TERM
  stack_up "$SYNCLINE_STACK_DIR"

  # The whole-system tests start the binaries, which cargo test alone does not build. With --tests the
  # dependencies get the features they have in cargo test; without it they would be built twice.
  cargo build --workspace --bins --tests --locked 8<&-
  # A build leaves gigabytes to be written: later, in the middle of a test, they would hold up every commit for many seconds.
  sync
  if [ $# = 0 ]; then
    run_all || status=$?
  else
    run "$@" | tee "$LOGS/1" || status=$?
  fi

  echo
  echo "Summary, one line a suite:"
  for log in "$LOGS"/*; do summary "$log"; done
  return "$status"
}

main "$@"

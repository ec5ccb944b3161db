#!/usr/bin/env bash
# Breaks each law of README.md on purpose and asks merge_laws to notice: a mutant that lives is a law nobody tests.
#
#   transform/tests/mutants.sh [LAW]...
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export SYNCLINE_LAWS_TIMES=${SYNCLINE_LAWS_TIMES:-0.05} RUST_BACKTRACE=0

cd "$ROOT"
laws=("$@")
if [ ${#laws[@]} = 0 ]; then
  mapfile -t laws < <(sed -n 's/^| `\([a-z-]*\)` |.*/\1/p' transform/tests/README.md)
fi
binary=$(cargo test --workspace --features syncline-transform/mutants --test merge_laws --no-run --message-format json |
  sed -n 's/.*"executable":"\([^"]*merge_laws[^"]*\)".*/\1/p')

lives=0
for law in "${laws[@]}"; do
  if notices=$(SYNCLINE_MUTANT=$law "$binary" 2>&1); then
    echo "$law LIVES"
    lives=1
  else
    echo "$law: noticed by $(grep -c '^test .* FAILED$' <<<"$notices") tests"
  fi
done
exit "$lives"

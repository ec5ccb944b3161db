#!/usr/bin/env bash
# What every verb of `syncline` says to a person, as it was on a small running system, for the README:
#
#   tests/readme_output.sh [--keep] > output.txt
#
# It is the transcript of the test that runs every verb (tests/tests/system/console/verbs.rs), on a stack of its own.
set -euo pipefail
shopt -s inherit_errexit

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TRANSCRIPT=$(mktemp)
trap 'rm -f "$TRANSCRIPT"' EXIT

SYNCLINE_TRANSCRIPT=$TRANSCRIPT "$ROOT/tests/run.sh" "$@" --test system every_verb_answers_people_and_programs >&2
cat "$TRANSCRIPT"

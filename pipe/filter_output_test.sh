#!/usr/bin/env bash
# filter_output_test.sh PROGRAM: what comes out is what the command makes of what
# went in, and the exit status is the command's.
set -euo pipefail

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cmp <(seq 3 | "$1" sort -r) <(printf '%s\n' 3 2 1)
head -c 1000003 /dev/urandom >"$directory/input"
"$1" cat <"$directory/input" >"$directory/output"
cmp "$directory/input" "$directory/output"
status=0
"$1" sh -c 'exit 7' </dev/null || status=$?
((status == 7))

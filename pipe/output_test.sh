#!/usr/bin/env bash
# output_test.sh PROGRAM: what comes out is the usual text, or what went in.
set -euo pipefail

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cmp <("$1") <(echo 'Hello World!')
head -c 1000003 /dev/urandom >"$directory/input"
"$1" - <"$directory/input" >"$directory/output"
cmp "$directory/input" "$directory/output"

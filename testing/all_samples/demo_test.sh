#!/usr/bin/env bash
# demo_test.sh DEMO: the demo shows that all is well, and does not where it could
# not even begin.
set -u

demo=$1
directory=$(mktemp -d) || exit
trap 'rm -rf "$directory"' EXIT
fail() {
  echo "FAILED: $*" >&2
  cat "$directory/shown" >&2
  exit 1
}

"$demo" >"$directory/shown" 2>&1 || fail "the demo ended with $?"
read -r passed _ total _ < <(tail -1 "$directory/shown")
((passed > 0 && passed == total)) || fail "not all transfers were well"

# Without a directory it would write into the root directory, as root, and say
# that all is well.
mkdir "$directory/bin"
printf '#!/bin/sh\necho "mktemp: no room" >&2\nexit 1\n' >"$directory/bin/mktemp"
chmod +x "$directory/bin/mktemp"
PATH=$directory/bin:$PATH "$demo" >"$directory/shown" 2>&1 &&
  fail "the demo went on without a directory"
[[ $(<"$directory/shown") == 'mktemp: no room' ]] || fail "the demo went on"

#!/usr/bin/env bash
# benchmark_test.sh BENCHMARK: its quick mode runs everything, verifies what it receives, and leaves nothing but its
# results. What time anything takes is not looked at.
set -u

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
failed=no
fail() {
  echo "FAILED: $*" >&2
  failed=yes
}
export BENCHMARK_NAME=ipc-benchmark-${directory##*.}
names() { ls -d {/dev/shm,/tmp}/"$BENCHMARK_NAME"* 2>/dev/null; }

BUILD_WORKING_DIRECTORY=$directory "$1" --quick >"$directory/table" || fail "exit status $?"
[[ -z $(names) ]] || fail "left behind: $(names)"
cat "$directory/table"
if grep -n '.\{101\}' <(grep -v '/' "$directory/table"); then fail 'lines are longer than 100 columns'; fi

placements=2
if grep -q 'only one processor' "$directory/table"; then placements=1; fi
for row in 'shm ring' pipe FIFO 'message queue' 'socket, Unix' 'socket, TCP'; do
  for size in '64 B' '1 KiB' '4 KiB' '64 KiB'; do
    figures='[0-9]'
    # More than the system lets a message have.
    [[ $row$size != 'message queue64 KiB' ]] || figures='[-0-9]'
    n=$(grep -c "^$row  *$size | *$figures" "$directory/table")
    ((n == placements)) || fail "$row, $size: $n rows"
  done
done
for row in 'shm mailbox' pipe FIFO 'message queue' 'socket, Unix'; do
  grep -q "^$row  *|  *[0-9.]* | [0-9]" "$directory/table" || fail "no start-up of $row"
done
python3 -m json.tool "$directory/ipc_benchmark.json" >/dev/null || fail 'no figures'
if command -v gnuplot >/dev/null; then
  grep -q '</svg>' "$directory/ipc_benchmark.svg" || fail 'no chart'
fi
[[ $failed == no ]]

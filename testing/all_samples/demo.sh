#!/usr/bin/env bash
# Runs each pair of samples, shows what passed between the two, and compares it
# with what should have. Exit status 1 where anything differs.
set -u

if [[ ! -x shm/writer ]]; then
  echo "demo: the samples are not here; run it by: bazel run //:demo" >&2
  exit 2
fi
unset LANG LC_ALL LC_MESSAGES
bold='' plain=''
if [[ -t 1 ]]; then
  bold=$'\e[1m' plain=$'\e[0m'
fi
# Names that nobody else has: this may run beside itself.
directory=$(mktemp -d /tmp/ipc-demo-XXXXXX) || exit # It has said why.
name=/ipc-demo-$$
first=0
trap '((first)) && kill "$first" 2>/dev/null; rm -rf "$directory"' EXIT
trap 'exit 130' INT TERM
passed=0
failed=0

# run N COMMAND...: shows the command, runs it, and shows what it printed behind
# the number of its terminal. Its standard output is also added to $directory/out.
# Its standard input is what $input prints, if set.
run() {
  local terminal=$1
  shift
  printf '  %s$ %s%s\n' "$terminal" "${input:+$input | }" "$*"
  ${input:-true} | timeout 10 "$@" >"$directory/stdout" 2>"$directory/stderr"
  local status=$?
  ((status == 0)) || ok=no
  show "$terminal" "$directory/stderr" "$directory/stdout"
  cat "$directory/stdout" >>"$directory/out"
}

show() {
  local terminal=$1
  shift
  cat "$@" | while IFS= read -r line; do
    printf '  %s> %s\n' "$terminal" "$line"
  done
}

# start COMMAND...: runs the command in the first terminal until it waits.
start() {
  printf '  1$ %s\n' "$*"
  mkfifo "$directory/events"
  "$@" >"$directory/stdout1" 2>"$directory/events" </dev/null &
  first=$!
  exec 3<"$directory/events"
  rm "$directory/events"
  local line=''
  IFS= read -r -t 10 -u 3 line || ok=no # The event: it says that it waits.
  printf '  1> %s\n' "$line"
}

# finish STATUS: waits for the first terminal's command and shows what it printed.
finish() {
  local status=0
  wait "$first" || status=$?
  first=0
  ((status == $1)) || ok=no
  cat <&3 >"$directory/stderr1"
  exec 3<&-
  show 1 "$directory/stderr1" "$directory/stdout1"
  cat "$directory/stdout1" >>"$directory/out"
}

title() {
  printf '%s%s%s\n' "$bold" "$1" "$plain"
  ok=yes
  : >"$directory/out"
}

# expect LINE...: compares all that was printed on standard output.
expect() {
  if [[ $ok == yes ]] && cmp -s "$directory/out" <(printf '%s\n' "$@"); then
    echo '  ok'
    ((++passed))
  else
    echo '  FAILED: expected' "$@"
    ((++failed))
  fi
  echo
}

title 'Shared memory: both map the same memory'
start shm/reader --name "$name"
run 2 shm/writer --name "$name"
finish 0
expect 'Hello World'

title 'A ring in shared memory: a stream'
start shm/ring_reader --name "$name"
input='seq 3' run 2 shm/ring_writer --name "$name"
finish 0
expect 1 2 3

title 'Memory without a name: handed over, and sealed'
start shm/memfd_reader --name "$name"
input='seq 3' run 2 shm/memfd_writer --name "$name"
finish 0
expect 1 2 3

title 'Pipe: a parent writes, its child prints'
run 1 pipe/pipe
expect 'Hello World!'

title 'A child with both ends: it runs a command'
input='seq 3' run 1 pipe/filter sort -r
expect 3 2 1

title 'FIFO: a pipe with a name in the file system'
start fifo/reader --path "$directory/named_pipe"
run 2 fifo/writer --path "$directory/named_pipe"
finish 0
expect 'Hello World'

title 'Message queue: messages with priorities, until one says "quit"'
start mqueue/server --name "$name"
run 2 mqueue/client --name "$name" 'Hello World'
run 2 mqueue/client --name "$name" quit
finish 0
expect 'Hello World' quit 'Hello World'

title 'Socket: the server echoes what clients send, until interrupted'
start socket/server --unix "$directory/ipc_socket"
run 2 socket/client --unix "$directory/ipc_socket"
kill -TERM "$first"
finish 143 # Died of SIGTERM, as it was asked to.
expect 'Hello World'

echo "$bold$passed of $((passed + failed)) transfers: what came out is what went in.$plain"
((failed == 0))

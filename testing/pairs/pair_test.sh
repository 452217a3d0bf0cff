#!/usr/bin/env bash
# pair_test.sh FIRST RECEIVED SENT [MESSAGE]: starts $RECEIVER and $SENDER, the
# one that FIRST names first, and compares what they print, their exit statuses,
# and what they leave behind with what has to be. pair_test.bzl says the rest.
set -u

first=$1 received=$2 sent=$3
shift 3
directory=$(mktemp -d /tmp/ipc-test-XXXXXXXXXX)
files=$(mktemp -d)
declare -A process
trap 'kill "${process[@]}" 2>/dev/null; rm -rf "$directory" "$files"' EXIT
case $NAMING in
  --name) name=/${directory##*/} ;;
  *) name=$directory/name ;;
esac

failed=no
fail() {
  echo "FAILED: $*" >&2
  failed=yes
}

# start ROLE COMMAND...: in the background; its output and error go to files. Far
# more time than it takes: this only bounds a test that hangs.
start() {
  local role=$1
  shift
  timeout --foreground 50 "$@" <"$files/input" >"$files/$role.out" \
    2>>"$files/$role.err" 3<&- &
  process[$role]=$!
}

# Returns once the program which writes into the FIFO says that it waits.
await() {
  local line=
  exec 3<"$1"
  rm "$1"
  : >"$1" # A file from now on.
  IFS= read -r -u 3 line || fail "$first ended without waiting"
  [[ $line == *'waiting for '* || $line == *'listening on '* ]] ||
    fail "$first does not say that it waits: $line"
}

# finish ROLE STATUS: waits for its end.
finish() {
  local status=0
  wait "${process[$1]}" || status=$?
  unset "process[$1]"
  ((status == $2)) || fail "$1 ended with $status instead of $2"
}

# expect ROLE LINE: that it has printed just that line, the input ("-"), or
# nothing, and has said nothing on its standard error but that it waits.
expect() {
  case $2 in
    -) cp "$files/input" "$files/expected" ;;
    '') : >"$files/expected" ;;
    *) printf '%s\n' "$2" >"$files/expected" ;;
  esac
  cmp "$files/$1.out" "$files/expected" >&2 || fail "output of $1 differs"
  if grep -qv -e ': waiting for ' -e ': listening on ' "$files/$1.err"; then
    fail "$1 said: $(<"$files/$1.err")"
  fi
}

: >"$files/input"
if [[ " $received $sent $* " == *' - '* ]]; then
  head -c 1000003 /dev/urandom >"$files/input"
fi
start_receiver() { start receiver "$RECEIVER" "$NAMING" "$name"; }
start_sender() { start sender "$SENDER" "$NAMING" "$name" "$@"; }

mkfifo "$files/$first.err"
if [[ $first == receiver ]]; then
  start_receiver
  await "$files/receiver.err"
  start_sender "$@"
else
  start_sender "$@"
  await "$files/sender.err"
  start_receiver
fi
finish sender 0
status=0
case $STOP in
  quit)
    expect sender "$sent"
    start_sender quit
    finish sender 0
    sent=quit
    ;;
  TERM)
    # The program itself: `timeout` may not have noted yet that it has started
    # one, and would end alone.
    read -r child <"/proc/${process[receiver]}/task/${process[receiver]}/children"
    kill -TERM "$child"
    status=$((128 + 15))
    ;;
esac
finish receiver "$status"
cat <&3 >>"$files/$first.err"
expect sender "$sent"
expect receiver "$received"

leftovers=$(ls -A "$directory")
[[ -z $leftovers ]] || fail "left behind: $leftovers"
if [[ $NAMING == --name ]]; then
  status=0
  "$NAME_EXISTS" "$name" || status=$?
  ((status == 1)) || fail "left behind: $name"
fi
[[ $failed == no ]]

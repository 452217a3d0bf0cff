#!/usr/bin/env bash
# calls_test.sh CALLS [README...]: the time lines and diagrams of //:calls, and the diagrams in the READMEs, each lane of
# which is compared with what the processes really do.
set -u

calls=$1
shift
[[ $calls == */* ]] || calls=./$calls
if ! command -v strace >/dev/null; then
  echo "SKIPPED: no strace, so nothing was tested; it is in Debian's package of that name"
  exit
fi
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
fail() {
  echo "FAILED: $*" >&2
  touch "$directory/failed"
}
# Names that nobody else has: this may run beside itself.
export CALLS_NAME=ipc-calls-${directory##*.}-
names() { ls -d {/dev/shm,/dev/mqueue,/tmp}/"$CALLS_NAME"* 2>/dev/null; }

# The pairs are run side by side, as they mostly wait.

# --- Time lines

pairs='shm ring memfd pipe filter fifo mqueue socket'
"$calls" | grep -q "^Pairs: ${pairs// /, }$" || fail 'the list of pairs'
# time_lines PAIR: in both orders, if there are two.
time_lines() {
  local pair=$1 orders=('') order out=$directory/$1.out err=$directory/$1.err
  [[ $pair == pipe || $pair == filter ]] || orders+=('--first writer' '--first reader')
  for order in "${orders[@]}"; do
    # shellcheck disable=SC2086 # An option and its value.
    "$calls" "$pair" $order >"$out" 2>"$err" || fail "$pair $order: exit status $?"
    [[ ! -s $err ]] || fail "$pair $order: $(cat "$err")"
    grep -qE '^[a-z_]+ printed: (Hello World!?|World)$' "$out" || fail "$pair $order: nothing is printed"
    grep -q 'F_GETFD\|execve\|ld.so' "$out" && fail "$pair $order: not from main on"
    grep -n '.\{101\}' "$out" && fail "$pair $order: lines are longer than 100 columns"
    grep -q $'\e' "$out" && fail "$pair $order: colour in a file"
    # Who is first is there first, and waits for the other, if not for its own child.
    if [[ -n $order ]]; then
      grep -qE '\.\.\. .* after [0-9.]+ m?s' "$out" || fail "$pair $order: nobody waits"
    fi
  done
}
for pair in $pairs; do
  time_lines "$pair" &
done
wait
"$calls" fifo --first writer | grep -qE '\.\.\. these [2-9], [0-9]+ times in' || fail 'attempts are not folded'

# The same on a terminal: in colour, and otherwise as it is.
python3 -c 'import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) != 0)' "$calls" pipe >"$directory/terminal" ||
  fail "on a terminal: exit status $?"
grep -q $'\e\\[1;32mwrite(1, "Hello World!\\\\n")' "$directory/terminal" || fail 'no colour on a terminal'
sed -E $'s/\e\\[[0-9;]*m//g; s/\r$//' "$directory/terminal" | grep -n '.\{101\}' && fail 'a terminal: lines are too long'
grep -q '^parent printed: Hello World!' "$directory/terminal" || fail 'a terminal: nothing is printed'

# --- Diagrams

# shellcheck disable=SC2016  # The backticks are a README's.
readme() { printf '# Test\n\n<!-- calls %s -->\n```mermaid\n%s\n```\n' "$1" "$(cat)"; }
# diagram PAIR: what it prints is what happens.
diagram() {
  "$calls" "$1" --mermaid >"$directory/$1" || fail "$1 --mermaid: exit status $?"
  readme "$1" <"$directory/$1" >"$directory/$1.md"
  "$calls" --check "$directory/$1.md" >"$directory/$1.out" 2>&1 || fail "$1: $(cat "$directory/$1.out")"
}
for pair in shm memfd pipe filter fifo mqueue socket; do
  diagram "$pair" &
done
wait
for readme; do
  "$calls" --check "$readme" || fail "$readme" &
done
wait

wrong=()
# make_wrong SED_SCRIPT WHAT: a diagram changed like this is not what happens.
make_wrong() {
  sed -E "$1" "$directory/fifo" >"$directory/wrong"
  cmp -s "$directory/fifo" "$directory/wrong" && fail "$2: nothing was changed"
  readme fifo <"$directory/wrong" >"$directory/$2.md"
  wrong+=("$directory/$2.md")
}
make_wrong 's/flock\(/fcntl(/' 'another call'
make_wrong 's/O_WRONLY/O_RDWR/' 'another argument'
make_wrong 's/read\(fifo\) = 0/read(fifo) = 1/' 'another result'
make_wrong 's/^( *)W(->>K: .*O_PATH)/\1R\2/' 'a call of the other process'
make_wrong '/mkfifo/d' 'a call too few'
make_wrong '/mkfifo/{p;s/mkfifo\(/open(/}' 'a call too many'
make_wrong '/mkfifo/{h;d};/flock/{G}' 'two calls in the wrong order'
make_wrong '0,/poll\(fifo POLLIN\)$/{/K-->>/d;/poll/s/, poll.*//}' 'a wait too few'
make_wrong 's/^( *W->>K: write\(fifo)/    W->>K: poll(fifo POLLIN)\n\1/' 'a wait too many'
make_wrong '0,/K-->>R: poll/s/K-->>R: poll/K-->>R: recv/' 'a return from what was not called'
# They are compared with the same ten runs, so that these are made only once.
"$calls" --check "${wrong[@]}" "$directory/fifo.md" >"$directory/out" 2>&1 && fail 'wrong diagrams pass'
for readme in "${wrong[@]}"; do
  grep -qF "$readme" "$directory/out" || fail "a diagram with $(basename "$readme" .md) passes"
done
grep -qF "$directory/fifo.md" "$directory/out" && fail 'a diagram beside wrong ones does not pass'
echo 'No diagram' >"$directory/README.md"
"$calls" --check "$directory/README.md" >/dev/null && fail 'a file without a diagram passes'
sed '/<!-- calls/d' "$directory/fifo.md" >"$directory/README.md"
"$calls" --check "$directory/README.md" >/dev/null && fail 'a diagram of an unknown pair passes'

# --- Manners

python=$(python3 -c 'import sys; print(sys.executable)')
[[ $(PATH=/nonexistent "$python" "$calls" fifo 2>&1) == 'calls: strace is missing: apt-get install strace' ]] ||
  fail 'without strace'
"$calls" nothing >"$directory/out" 2>"$directory/err"
[[ $? == 2 && ! -s $directory/out ]] || fail 'an unknown pair'
"$calls" --help | grep -q '^Usage: calls ' || fail '--help'
[[ -z $(names) ]] || fail "left behind: $(names)"
[[ ! -e $directory/failed ]]

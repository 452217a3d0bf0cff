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
failed=no
fail() {
  echo "FAILED: $*" >&2
  failed=yes
}
# Names that nobody else has: this may run beside itself.
export CALLS_NAME=ipc-calls-${directory##*.}-
names() { ls -d {/dev/shm,/dev/mqueue,/tmp}/"$CALLS_NAME"* 2>/dev/null; }

# --- Time lines

pairs='shm ring memfd pipe filter fifo mqueue socket'
"$calls" | grep -q "^Pairs: ${pairs// /, }$" || fail 'the list of pairs'
for pair in $pairs; do
  orders=('')
  [[ $pair == pipe || $pair == filter ]] || orders+=('--first writer' '--first reader')
  for order in "${orders[@]}"; do
    # shellcheck disable=SC2086 # An option and its value.
    "$calls" "$pair" $order >"$directory/out" 2>"$directory/err" || fail "$pair $order: exit status $?"
    [[ ! -s $directory/err ]] || fail "$pair $order: $(cat "$directory/err")"
    grep -qE '^[a-z_]+ printed: (Hello World!?|World)$' "$directory/out" || fail "$pair $order: nothing is printed"
    grep -q 'F_GETFD\|execve\|ld.so' "$directory/out" && fail "$pair $order: not from main on"
    grep -n '.\{101\}' "$directory/out" && fail "$pair $order: lines are longer than 100 columns"
    grep -q $'\e' "$directory/out" && fail "$pair $order: colour in a file"
    # Who is first is there first, and waits for the other, if not for its own child.
    if [[ -n $order ]]; then
      grep -qE '\.\.\. .* after [0-9.]+ m?s' "$directory/out" || fail "$pair $order: nobody waits"
    fi
  done
done
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
for pair in shm memfd pipe filter fifo mqueue socket; do
  "$calls" "$pair" --mermaid >"$directory/$pair" || fail "$pair --mermaid: exit status $?"
  readme "$pair" <"$directory/$pair" >"$directory/README.md"
  "$calls" --check "$directory/README.md" >"$directory/out" 2>&1 || fail "$pair: $(cat "$directory/out")"
done
# expect_wrong SED_SCRIPT WHAT: a diagram changed like this is not what happens.
expect_wrong() {
  sed -E "$1" "$directory/fifo" >"$directory/wrong"
  cmp -s "$directory/fifo" "$directory/wrong" && fail "$2: nothing was changed"
  readme fifo <"$directory/wrong" >"$directory/README.md"
  "$calls" --check "$directory/README.md" >"$directory/out" 2>&1 && fail "a diagram with $2 passes"
}
readme fifo <"$directory/fifo" >"$directory/marked"
expect_wrong 's/flock\(/fcntl(/' 'another call'
expect_wrong 's/O_WRONLY/O_RDWR/' 'another argument'
expect_wrong 's/read\(fifo\) = 0/read(fifo) = 1/' 'another result'
expect_wrong 's/^( *)W(->>K: .*O_PATH)/\1R\2/' 'a call of the other process'
expect_wrong '/mkfifo/d' 'a call too few'
expect_wrong '/mkfifo/{p;s/mkfifo\(/open(/}' 'a call too many'
expect_wrong '/mkfifo/{h;d};/flock/{G}' 'two calls in the wrong order'
expect_wrong '0,/poll\(fifo POLLIN\)$/{/K-->>/d;/poll/s/, poll.*//}' 'a wait too few'
expect_wrong 's/^( *W->>K: write\(fifo)/    W->>K: poll(fifo POLLIN)\n\1/' 'a wait too many'
expect_wrong '0,/K-->>R: poll/s/K-->>R: poll/K-->>R: recv/' 'a return from what was not called'
echo 'No diagram' >"$directory/README.md"
"$calls" --check "$directory/README.md" >/dev/null && fail 'a file without a diagram passes'
sed '/<!-- calls/d' "$directory/marked" >"$directory/README.md"
"$calls" --check "$directory/README.md" >/dev/null && fail 'a diagram of an unknown pair passes'
for readme in "$@"; do
  "$calls" --check "$readme" || fail "$readme"
done

# --- Manners

python=$(python3 -c 'import sys; print(sys.executable)')
[[ $(PATH=/nonexistent "$python" "$calls" fifo 2>&1) == 'calls: strace is missing: apt-get install strace' ]] ||
  fail 'without strace'
"$calls" nothing >"$directory/out" 2>"$directory/err"
[[ $? == 2 && ! -s $directory/out ]] || fail 'an unknown pair'
"$calls" --help | grep -q '^Usage: calls ' || fail '--help'
[[ -z $(names) ]] || fail "left behind: $(names)"
[[ $failed == no ]]

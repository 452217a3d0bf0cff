#!/usr/bin/env bash
# copy_test.sh README...: what the READMEs list under "Files to copy" is what their
# samples list under "// Copy:", and these include no other. Copied into one empty
# tree, each header compiles alone; so does each example in a README.
#
# copy_test.sh README -- COMMAND...: of that list, what the samples $RECEIVER and
# $SENDER list, and nothing else, makes both by the README's command, with all
# warnings as errors. Then COMMAND finds them in PATH.
#
# By g++ as C++20. With EVERY_COMPILER=1 by g++ and clang++, as C++20 and C++23,
# and without a COMMAND all samples are compiled beside each other, too.
set -euo pipefail

# Of --runs_per_test: the same files make the same programs, which other tests run
# as often.
if ((${TEST_RANDOM_SEED:-1} > 1)); then
  echo "SKIPPED: the first run has built them"
  exit
fi
warnings=(-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror)
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
fail() {
  echo "FAILED: $*" >&2
  exit 1
}

readmes=()
while (($# > 0)) && [[ $1 != -- ]]; do
  readmes+=("$1")
  shift
done
(($# == 0)) || shift

# section README: its text under "Files to copy".
section() {
  awk '/^## / { inside = ($0 == "## Files to copy") } inside' "$1"
}

# copied_with SAMPLE: what its head lists, from "// Copy: a, b," on, over the
# indented lines after it.
copied_with() {
  awk '/^\/\/ [^ ]/ { inside = ($2 == "Copy:"); $2 = "" }
    inside { $1 = ""; gsub(/[ ,]+/, "\n"); print }' "$1" | sed '/^$/d'
}

# check_lists README: both lists name each file from the top of the repository.
check_lists() {
  local sample program copied missing command=no
  section "$1" | awk -F '`' '/^- / { print $2 }' | sort >"$directory/readme"
  [[ -s $directory/readme ]] || fail "$1 has no list under '## Files to copy'"
  : >"$directory/samples"
  while read -r sample; do
    [[ $sample == *.cc ]] || continue
    copied_with "$sample" >"$directory/sample"
    grep -qxF "$sample" "$directory/sample" || fail "$sample does not copy itself"
    mapfile -t copied <"$directory/sample"
    missing=$(awk -F '"' '
      BEGIN { while (++i < ARGC) copied[ARGV[i]] }
      /^#include "/ {
        beside = FILENAME
        sub(/[^\/]*$/, $2, beside)
        if (!($2 in copied) && !(beside in copied)) print $2
      }' "${copied[@]}")
    [[ -z $missing ]] || fail "$sample does not copy what it includes: $missing"
    cat "$directory/sample" >>"$directory/samples"
    program=$(basename "$sample" .cc)
    case $program in
      "${RECEIVER:-}" | "${SENDER:-}") cat "$directory/sample" >>"$directory/pair" ;;
    esac
    if section "$1" | grep -qF "g++ -std=c++20 -I. $sample -o $program"; then
      command=yes
    fi
  done <"$directory/readme"
  diff "$directory/readme" <(sort -u "$directory/samples") >&2 ||
    fail "< $1 and > its samples list other files to copy"
  [[ $command == yes ]] || fail "$1 has no 'g++ -std=c++20 -I. SAMPLE -o PROGRAM'"
  cat "$directory/readme" >>"$directory/all"
}

# What the body of a function, as an example, may use.
includes() {
  printf '#include <%s>\n' fcntl.h mqueue.h poll.h semaphore.h sys/mman.h \
    sys/socket.h sys/stat.h sys/un.h sys/wait.h unistd.h \
    csignal cstdint cstdio cstdlib cstring iostream string vector
}

# write_examples README PREFIX: each block of C++ into a file PREFIX.N.cc.
write_examples() {
  includes >"$directory/includes"
  awk -v prefix="$2" -v includes="$directory/includes" '
    /^<!-- compile: (body|file) -->$/ { kind = $3; next }
    /^```cpp/ {
      if (kind == "") { print FILENAME ":" NR ": no <!-- compile: -->"; exit 1 }
      file = prefix "." ++n ".cc"
      printf "" >file
      if (kind == "body") {
        while ((getline line <includes) > 0) print line >file
        close(includes)
        print "int Example();\nint Example() {" >file
      }
      print "#line " NR + 1 " \"" FILENAME "\"" >file
      inside = 1
      next
    }
    /^```/ && inside {
      if (kind == "body") print "return 0; }" >file
      close(file)
      inside = 0
    }
    inside { print >file }
    NF > 0 && !inside { kind = "" }' "$1" >&2 || fail "$1: an example is not compiled"
}

# compile_all LOG COMMAND...: with each name that comes on the standard input; {}
# stands for it.
compile_all() {
  xargs -r -P "$(nproc)" -I '{}' "$@" 2>"$directory/log" && return
  cat "$directory/log" >&2
  fail "does not compile: $*"
}

for readme in "${readmes[@]}"; do
  check_lists "$readme"
done
files=$directory/all
if (($# > 0)); then
  files=$directory/pair
  [[ -s $files ]] || fail "${readmes[*]} lists neither $RECEIVER.cc nor $SENDER.cc"
fi
mapfile -t files < <(sort -u "$files")

compilers=(g++) standards=(c++20)
if [[ ${EVERY_COMPILER:-} == 1 ]]; then
  compilers=(g++ clang++) standards=(c++20 c++2b) # c++23 is unknown to clang 14.
fi
ran=
for compiler in "${compilers[@]}"; do
  # Every compiler was asked for: to pass with one alone would be a lie.
  command -v "$compiler" >/dev/null ||
    fail "$compiler is missing: apt-get install g++ clang"
  for standard in "${standards[@]}"; do
    tree=$directory/$compiler-$standard
    mkdir "$tree"
    cp --parents "${files[@]}" "$tree"
    compile=("$compiler" "-std=$standard" -O3 "${warnings[@]}")
    if (($# > 0)); then
      samples=$(printf '%s\n' "${files[@]}" | sed -n 's/\.cc$//p')
      (cd "$tree" && compile_all "${compile[@]}" -I. '{}.cc' -o '{}' <<<"$samples")
      programs=$(sed "s,^,$tree/,; s,/[^/]*$,," <<<"$samples" | sort -u | paste -sd :)
      PATH=$programs:$PATH "$@"
    else
      for readme in "${readmes[@]}"; do
        write_examples "$readme" "$tree/$(tr / - <<<"$readme")"
      done
      # Other than the samples, these leave out errors.
      example=("${compile[@]}" -fsyntax-only -Wno-unused -Wno-unused-result)
      find "$tree" -maxdepth 1 -name '*.cc' | compile_all "${example[@]}" '{}'
      (
        cd "$tree"
        printf '%s\n' "${files[@]}" | sed -n '/\.h$/p' |
          compile_all "${compile[@]}" -I. -fsyntax-only -include '{}' -x c++ /dev/null
        [[ ${EVERY_COMPILER:-} != 1 ]] || printf '%s\n' "${files[@]}" | sed -n '/\.cc$/p' |
          compile_all "${compile[@]}" -I. -fsyntax-only '{}'
      )
    fi
    ran+=" $compiler $("$compiler" -dumpfullversion -dumpversion) $standard"
  done
done
echo "Compiled by:$ran"

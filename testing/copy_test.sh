#!/usr/bin/env bash
# copy_test.sh README TEST...: the files that the samples $RECEIVER and $SENDER
# say to copy, and no others, build outside Bazel with plain compilers; then TEST
# finds the programs in PATH. The README has to say what all its samples say.
set -euo pipefail

readme=$1
shift
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

# Both lists name each file from the top of the repository. The README's:
awk -F '`' '/^## / { inside = ($0 == "## Files to copy") }
  inside && /^- / { print $2 }' "$readme" | sort >"$directory/readme"
mapfile -t files <"$directory/readme"
((${#files[@]} > 0)) || fail "$readme has no list under '## Files to copy'"

# A sample's: from "// Copy: a, b," on, over the indented lines after it.
for sample in "${files[@]}"; do
  [[ $sample == *.cc ]] || continue
  awk '/^\/\/ [^ ]/ { inside = ($2 == "Copy:"); $2 = "" }
    inside { $1 = ""; gsub(/[ ,]+/, "\n"); print }' "$sample" |
    sed '/^$/d' >"$directory/sample"
  grep -qxF "$sample" "$directory/sample" || fail "$sample does not copy itself"
  cat "$directory/sample" >>"$directory/samples"
  case $(basename "$sample" .cc) in
    "$RECEIVER" | "$SENDER") cat "$directory/sample" >>"$directory/pair" ;;
  esac
done
diff "$directory/readme" <(sort -u "$directory/samples") >&2 ||
  fail "< $readme and > its samples list other files to copy"

mapfile -t files < <(sort -u "$directory/pair")
((${#files[@]} > 0)) || fail "$readme does not list $RECEIVER.cc"
ran=
for compiler in g++ clang++; do
  if ! command -v "$compiler" >/dev/null; then
    echo "SKIPPED: there is no $compiler here"
    continue
  fi
  mkdir "$directory/$compiler"
  cp "${files[@]}" "$directory/$compiler"
  (
    cd "$directory/$compiler"
    for source in *.cc; do
      "$compiler" -std=c++20 "${warnings[@]}" "$source" -o "${source%.cc}"
    done
  )
  PATH=$directory/$compiler:$PATH "$@"
  ran+=" $compiler $("$compiler" -dumpfullversion -dumpversion)"
done
echo "Built and run with:${ran:- no compiler}"

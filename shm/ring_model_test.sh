#!/usr/bin/env bash
# ring_model_test.sh MODEL: tries every order of the steps by which the two sides of the ring sleep and wake each other.
# None may lose a wake-up; and where the model lacks any of what keeps it from that, one has to be found.
set -u

model=$PWD/$1
# It is asked for by its name, or as a part of //:exhaustive: to pass without having tried anything would be a lie.
command -v spin >/dev/null || {
  echo "FAILED: spin is missing: apt-get install spin" >&2
  exit 1
}
# Of --runs_per_test: nothing in it is left to chance.
if ((${TEST_RANDOM_SEED:-1} > 1)); then
  echo "SKIPPED: the first run has tried all"
  exit
fi
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory" || exit

# check FLAG...: whether spin finds the model without fault. Its words say so, not its status.
check() {
  if ! {
    spin -a "$@" "$model" && "${CC:-gcc}" -O1 -w -DMEMLIM=256 "${pan[@]}" -o pan pan.c && ./pan -m100000 "${run[@]}"
  } >log 2>&1 || grep -q 'error: \|out of memory\|max search depth' log; then
    cat log
    exit 1  # Not all was tried, nor did a fault end it.
  fi
  grep 'states, stored' log
  grep -q 'errors: 0$' log
}

failed=no
pan=(-DSAFETY) run=()
echo "every order: no deadlock, no byte lost"
check || { cat log; failed=yes; }
pan=(-DNP) run=(-l)
echo "every order: no running in circles"
check || { cat log; failed=yes; }
pan=(-DSAFETY) run=()
for fault in NO_EPOCH EPOCH_LATE NO_BARRIER NO_FENCE FLAG_LATE; do
  echo "with $fault: a deadlock"
  if check "-D$fault" || ! grep -q 'invalid end state' log; then
    echo "FAILED: no deadlock is found, so the model misses it"
    failed=yes
  fi
done
[[ $failed == no ]]

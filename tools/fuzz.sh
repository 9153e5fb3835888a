#!/bin/sh
# Runs every fuzzer of the tree for the given time (default 20s). go test takes
# one target at a time, so two run side by side with one worker each. With
# minimising unbounded, Go spends most of so short a run on it.
set -eu
time=${1:-20s}
list=$(mktemp)
trap 'rm -f "$list"' EXIT
grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r f; do
	grep -ho '^func Fuzz[A-Za-z0-9_]*' "$f" | sed 's/^func //' | while read -r name; do
		echo "$(dirname "$f") $name"
	done
done >"$list"
echo "$(wc -l <"$list") fuzzers, $time each"
xargs -P 2 -L 1 sh -c '
	out=$(go test -run "^\$" -fuzz "^$2\$" -fuzztime "$0" -fuzzminimizetime 10x -parallel 1 "$1" 2>&1) || { echo "$out"; echo "FAILED $1 $2"; exit 255; }
	echo "$1 $2: $(echo "$out" | grep -o "execs: [0-9]* ([0-9]*/sec)" | tail -1)"' "$time" <"$list"

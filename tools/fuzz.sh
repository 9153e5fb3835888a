#!/bin/sh
# Runs every fuzzer of the tree for the given time (default 20s), or those whose
# name matches the second argument. go test takes one target at a time, so two
# run side by side with one worker each. With minimising unbounded, Go spends
# most of so short a run on it.
set -eu
time=${1:-20s}
only=${2:-.}
list=$(mktemp)
trap 'rm -f "$list"' EXIT
grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r f; do
	grep -ho '^func Fuzz[A-Za-z0-9_]*' "$f" | sed 's/^func //' | while read -r name; do
		echo "$(dirname "$f") $name"
	done
done | grep -e "$only" >"$list"
echo "$(wc -l <"$list") fuzzers, $time each"
# When the time is up in the wrong moment, the Go tool fails with "context
# deadline exceeded" and no failing input. That says nothing
# about the code: such a run is done again, at most three times.
xargs -P 2 -L 1 sh -c '
	for try in 1 2 3; do
		if out=$(go test -run "^\$" -fuzz "^$2\$" -fuzztime "$0" -fuzzminimizetime 10x -parallel 1 "$1" 2>&1); then
			echo "$1 $2: $(echo "$out" | grep -o "execs: [0-9]* ([0-9]*/sec)" | tail -1)"
			exit 0
		fi
		case $out in
		*"Failing input"*) break ;;
		*"context deadline exceeded"*) ;;
		*) break ;;
		esac
	done
	echo "$out"
	echo "FAILED $1 $2"
	exit 255' "$time" <"$list"

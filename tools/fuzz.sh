#!/bin/sh
# Runs every fuzzer of the tree for the given time (default 20s), one after
# another: go test takes one fuzz target at a time.
set -eu
time=${1:-20s}
grep -rl --include='*_test.go' '^func Fuzz' . | while read -r f; do
	dir=$(dirname "$f")
	grep -ho '^func Fuzz[A-Za-z0-9_]*' "$f" | sed 's/^func //' | while read -r name; do
		echo "fuzz $dir $name $time"
		go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "$dir"
	done
done

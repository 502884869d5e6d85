#!/usr/bin/env bash
# `make fuzz`: every fuzz target for FUZZTIME each (default 30s), one after the other.
# Go fuzzes one target a run, so they are found by their names.
set -euo pipefail
cd "$(dirname "$0")/.."

found=0
while IFS=: read -r file target; do
	found=$((found + 1))
	printf '\n== %s in %s, %s\n' "$target" "$(dirname "$file")" "${FUZZTIME:-30s}"
	go test -run='^$' -fuzz="^$target\$" -fuzztime="${FUZZTIME:-30s}" "./$(dirname "$file")"
done < <(git grep --untracked -Eo '^func Fuzz[A-Za-z0-9_]*' -- '*_test.go' | sed 's/:func /:/')
[ "$found" -gt 0 ] || { echo "no fuzz target found" >&2; exit 1; }
printf '\n%d fuzz targets, no failure\n' "$found"

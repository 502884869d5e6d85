#!/usr/bin/env bash
# A fresh Debian, as a tar file, for the test that installs the package on a new machine:
# scripts/debian.sh makes it if it is missing (half a minute, once) and prints where it is.
# It is outside of the checkout, so that a new checkout finds it. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=bookworm
cache=${XDG_CACHE_HOME:-$HOME/.cache}/signalbox
tar=$cache/debian-$suite.tar
if [ ! -e "$tar" ]; then
	[ "$(id -u)" = 0 ] || { echo "debian: needs root" >&2; exit 1; }
	command -v debootstrap >/dev/null || scripts/apt.sh debootstrap
	mkdir -p "$cache"
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	debootstrap --variant=minbase "$suite" "$work/root" http://deb.debian.org/debian >&2
	tar -C "$work/root" --exclude=./var/cache/apt --exclude=./var/lib/apt/lists -cf "$tar.new" .
	mv "$tar.new" "$tar"
fi
echo "$tar"

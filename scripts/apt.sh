#!/usr/bin/env bash
# Installs Debian packages: scripts/apt.sh PACKAGE...
# Works as root or with a sudo that asks for no password; otherwise it fails with a message.
set -euo pipefail

fail() {
	printf '\n!!! cannot install %s: %s\n!!! install it by hand and run this again\n\n' "$packages" "$1" >&2
	exit 1
}

packages="$*"
[ -n "$packages" ] || { echo "usage: scripts/apt.sh PACKAGE..." >&2; exit 2; }
command -v apt-get >/dev/null || fail "this machine has no apt-get"

as_root=()
if [ "$(id -u)" -ne 0 ]; then
	sudo -n true 2>/dev/null || fail "not root, and sudo is missing or asks for a password"
	as_root=(sudo -n)
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The lists of an earlier update are still good, so it tries to install first.
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@" </dev/null >>"$log" 2>&1; }

echo "installing $packages" >&2
if ! apt install -y --no-install-recommends "$@"; then
	apt update || true
	apt install -y --no-install-recommends "$@" || { tail -n 20 "$log" >&2; fail "apt-get said no (above)"; }
fi

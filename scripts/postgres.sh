#!/usr/bin/env bash
# A throw-away PostgreSQL for the tests.
#
#   scripts/postgres.sh start         prints SIGNALBOX_TEST_POSTGRES=URL and SIGNALBOX_TEST_POSTGRES_DIR=DIR
#   scripts/postgres.sh stop [DIR]    ends it and removes DIR (default: $SIGNALBOX_TEST_POSTGRES_DIR)
#   scripts/postgres.sh run COMMAND…  runs COMMAND with both variables set, then stops, also on failure
#   scripts/postgres.sh install       only makes sure that PostgreSQL is there
#
# The cluster listens on loopback and trusts whoever can reach it. fsync stays on: the
# tests and benchmarks measure the cost of durable commits.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

say() { echo "postgres: $*" >&2; }

find_bin() {
	local found
	found=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
	if [ -n "$found" ] && [ -x "$found/initdb" ]; then
		echo "$found"
	elif command -v initdb >/dev/null && command -v pg_ctl >/dev/null; then
		dirname "$(command -v initdb)"
	fi
}

install_postgres() {
	[ -z "$(find_bin)" ] || return 0
	# Debian starts a cluster of its own on installation unless told not to. The
	# setting belongs to postgresql-common, so that package goes first.
	"$here/apt.sh" postgresql-common
	local conf=/etc/postgresql-common/createcluster.conf as_root=()
	[ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
	if ! grep -qs '^create_main_cluster *= *false' "$conf"; then
		echo 'create_main_cluster = false' | "${as_root[@]}" tee -a "$conf" >/dev/null
	fi
	"$here/apt.sh" postgresql
	[ -n "$(find_bin)" ] || { say "installed, but initdb is not where Debian puts it"; return 1; }
}

# PostgreSQL refuses to run as root.
unprivileged() {
	if [ "$(id -u)" -ne 0 ]; then
		"$@"
	elif command -v runuser >/dev/null; then
		(cd / && runuser -u postgres -- "$@")
	else
		(cd / && su postgres -s /bin/sh -c 'exec "$0" "$@"' -- "$@")
	fi
}

start() {
	install_postgres
	local bin dir port try
	bin=$(find_bin)
	dir=$(mktemp -d "${TMPDIR:-/tmp}/signalbox-postgres.XXXXXX")
	if [ "$(id -u)" -eq 0 ]; then
		id postgres >/dev/null 2>&1 || useradd --system --no-create-home postgres
		chown postgres "$dir"
	fi
	if ! unprivileged "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C \
		>"$dir.log" 2>&1 </dev/null; then
		cat "$dir.log" >&2
		rm -rf "$dir" "$dir.log"
		say "initdb failed (above)"
		return 1
	fi
	rm -f "$dir.log"
	# Ports below the range that the kernel hands to clients. Another program may
	# take one before the start, so a start that fails tries the next.
	for try in 1 2 3 4 5 6 7 8; do
		port=$((15000 + RANDOM % 15000))
		if (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then continue; fi
		if unprivileged "$bin/pg_ctl" -D "$dir/data" -l "$dir/data/server.log" -w -t 60 -s \
			-o "-h 127.0.0.1 -p $port -k $dir -c fsync=on -c synchronous_commit=on -c max_connections=200" \
			start >/dev/null 2>&1 </dev/null; then
			echo "SIGNALBOX_TEST_POSTGRES='postgres://postgres@127.0.0.1:$port/postgres?sslmode=disable'"
			echo "SIGNALBOX_TEST_POSTGRES_DIR='$dir'"
			return 0
		fi
	done
	tail -n 20 "$dir/data/server.log" >&2 || true
	rm -rf "$dir"
	say "would not start (above)"
	return 1
}

stop() {
	local dir=${1:-${SIGNALBOX_TEST_POSTGRES_DIR:-}} pid
	[ -n "$dir" ] || { say "stop: name the directory that start printed"; return 2; }
	case $dir in */signalbox-postgres.*) ;; *) say "stop: $dir is not one that start made"; return 2 ;; esac
	if [ -f "$dir/data/postmaster.pid" ]; then
		pid=$(head -n 1 "$dir/data/postmaster.pid")
		kill -INT "$pid" 2>/dev/null || true # SIGINT is PostgreSQL's fast shutdown
		for _ in $(seq 100); do
			kill -0 "$pid" 2>/dev/null || break
			sleep 0.1
		done
		kill -KILL "$pid" 2>/dev/null || true
	fi
	rm -rf "$dir"
}

case ${1:-} in
install) install_postgres ;;
start) start ;;
stop) stop "${2:-}" ;;
run)
	shift
	vars=$(start)
	set -a
	eval "$vars"
	set +a
	trap 'stop "$SIGNALBOX_TEST_POSTGRES_DIR"' EXIT
	trap 'exit 130' INT TERM
	"$@"
	;;
*)
	sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac

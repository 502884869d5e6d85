#!/bin/sh
# Makes the secrets that compose.yaml names, beside it. Nothing that is there is changed.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
make() { # NAME, then the command that prints the value
	name=$1
	shift
	[ -e "secrets/$name" ] || "$@" > "secrets/$name"
}
make master_key openssl rand -base64 32
make operator_secret openssl rand -hex 32
make database_password openssl rand -hex 32
make storage_url printf 'postgres://signalbox:%s@database/signalbox?sslmode=disable\n' "$(cat secrets/database_password)"
# The nodes are the user 65532, PostgreSQL starts as root. A secret of compose is the
# file itself, with its owner and its mode.
if [ "$(id -u)" = 0 ]; then
	chown 65532 secrets/master_key secrets/operator_secret secrets/storage_url
else
	echo "give three files to the user of the nodes: sudo chown 65532 secrets/master_key secrets/operator_secret secrets/storage_url" >&2
fi

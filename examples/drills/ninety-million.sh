#!/usr/bin/env bash
# Drill 2, ninety million: a flaw in an application has leaked the tokens of all its users.
# How many are they, how long does their end take, and what do honest users notice?
#
#   examples/drills/ninety-million.sh                       1,000,000 grants on SQLite: a minute
#   examples/drills/ninety-million.sh 10000000              10,000,000: ten minutes, 12 GB of disk
#   examples/drills/ninety-million.sh 1000000 postgres      two nodes on one PostgreSQL
#
# It needs Go; with PostgreSQL, also that or a Debian on which it can be installed.
. "$(dirname "$0")/drill.sh"

export DRILL_SIZE=${1:-1000000}
[[ $DRILL_SIZE =~ ^[0-9]+$ ]] || usage
case ${2:-sqlite} in
sqlite) drill TestDrill2_NinetyMillion/SQLite ./test/e2e ;;
postgres) drill TestDrill2_NinetyMillion/PostgreSQL ./test/e2e scripts/postgres.sh run ;;
*) usage ;;
esac

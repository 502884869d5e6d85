#!/usr/bin/env bash
# Drill 3, the leaked space: a repository and its logs were published, with tokens and secrets
# in them. Which are they, which are alive, and are all of them dead afterwards?
#
#   examples/drills/leaked-space.sh    half a minute
#
# It needs Go and git.
. "$(dirname "$0")/drill.sh"

[ $# -eq 0 ] || usage
need git "the drill makes a repository"
drill TestDrill3_TheLeakedSpace ./test/e2e

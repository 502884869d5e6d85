#!/usr/bin/env bash
# Drill 4, the unrotated credential: of the thousand credentials of a cluster one was never
# rotated. Which one is it, what replaces it, and how long would it live if Signalbox had made it?
#
#   examples/drills/unrotated-credential.sh         tokens live for 30 s: two minutes
#   examples/drills/unrotated-credential.sh full    for 5 minutes, as by default: seven minutes
#
# It needs Go. kube-apiserver and etcd are built from source the first time: ten minutes more.
. "$(dirname "$0")/drill.sh"

drill_with_clusters TestDrill4_TheUnrotatedCredential "$@"

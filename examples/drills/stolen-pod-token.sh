#!/usr/bin/env bash
# Drill 1, the stolen pod token: a thief has copied every token of a pod, and the pod is
# deleted. What can the thief still do, with tokens of Signalbox and with those of Kubernetes?
#
#   examples/drills/stolen-pod-token.sh         tokens live for 30 s: two minutes
#   examples/drills/stolen-pod-token.sh full    for 5 minutes, as by default: seven minutes
#
# It needs Go. kube-apiserver and etcd are built from source the first time: ten minutes more.
. "$(dirname "$0")/drill.sh"

drill_with_clusters TestDrill1_TheStolenPodToken "$@"

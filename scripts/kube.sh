#!/usr/bin/env bash
# The API server, etcd and kubectl of the tests in test/kube, built from Go modules.
#
#   scripts/kube.sh build    builds what is missing (minutes, once) and prints the directory
#   scripts/kube.sh path     prints the directory; fails if nothing has been built
#
# The directory is outside of the checkout, so that a new checkout finds it. Its name holds
# a hash of what decides what is built: a new version gets a directory of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(awk '$1 == "k8s.io/kubernetes" { print $2 }' test/kube/apiserver/go.mod)
# The version is what /version says: tools that talk to a cluster read it.
flags=(-trimpath -buildvcs=false -ldflags="-s -w -X k8s.io/component-base/version.gitVersion=$version")
inputs=$({ echo "${flags[@]}" && cat test/kube/{apiserver,etcd}/go.{mod,sum}; } | sha256sum | cut -c1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/signalbox
dir=$cache/kube-$version-$inputs

build() {
	[ ! -d "$dir" ] || return 0
	mkdir -p "$cache"
	# Two builds at once would take the machine twice as long. The second finds the result of the first.
	exec 9>"$cache/kube.lock"
	flock 9
	[ ! -d "$dir" ] || return 0
	local new=$dir.new
	rm -rf "$new" && mkdir "$new"
	export CGO_ENABLED=0 GOFLAGS=
	echo "kube: building etcd, kube-apiserver and kubectl $version into $dir: about ten minutes on two cores, once" >&2
	# The rest of the machine goes first.
	nice go build -C test/kube/etcd "${flags[@]}" -o "$new/etcd" go.etcd.io/etcd/server/v3
	echo "kube: etcd is built ($SECONDS s); kube-apiserver and kubectl follow" >&2
	nice go build -C test/kube/apiserver "${flags[@]}" -o "$new/" k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kubectl
	mv "$new" "$dir"
	echo "kube: built in $SECONDS s, $(du -sm "$dir" | cut -f1) MB" >&2
}

case ${1:-} in
build)
	build
	echo "$dir"
	;;
path)
	[ -d "$dir" ] || { echo "kube: nothing built yet: scripts/kube.sh build" >&2; exit 1; }
	echo "$dir"
	;;
*)
	sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac

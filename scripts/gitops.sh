#!/usr/bin/env bash
# Argo CD and Flux of the tests in test/kube, built from Go modules.
#
#   scripts/gitops.sh build    builds what is missing (minutes, once) and prints the directory
#   scripts/gitops.sh path     prints the directory; fails if nothing has been built
#
# As scripts/kube.sh does it: outside of the checkout, in a directory whose name holds a hash
# of what decides what is built. Each program is kept when it is done, so that a build that
# was interrupted goes on with the next one.
set -euo pipefail
cd "$(dirname "$0")/.."

# name, package, its module, and where the module keeps the kinds of objects that it serves
programs=(
	"argocd github.com/argoproj/argo-cd/v3/cmd github.com/argoproj/argo-cd/v3 manifests/crds"
	"source-controller github.com/fluxcd/source-controller github.com/fluxcd/source-controller config/crd/bases"
	"kustomize-controller github.com/fluxcd/kustomize-controller github.com/fluxcd/kustomize-controller config/crd/bases"
)
flags=(-trimpath -buildvcs=false "-ldflags=-s -w")
inputs=$({ echo "${flags[@]}" "${programs[@]}" && cat test/kube/{argocd,source-controller,kustomize-controller}/go.{mod,sum}; } | sha256sum | cut -c1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/signalbox
dir=$cache/gitops-$inputs

build() {
	[ ! -d "$dir" ] || return 0
	mkdir -p "$cache"
	exec 9>"$cache/gitops.lock"
	flock 9
	[ ! -d "$dir" ] || return 0
	local new=$dir.new name package module kinds source
	mkdir -p "$new"
	export CGO_ENABLED=0 GOFLAGS= GOWORK=off
	echo "gitops: building Argo CD and Flux into $dir: about ten minutes on two cores, once" >&2
	for program in "${programs[@]}"; do
		read -r name package module kinds <<<"$program"
		[ ! -e "$new/$name" ] || continue
		# The rest of the machine goes first.
		nice go build -C "test/kube/$name" -p 1 "${flags[@]}" -o "$new/$name.part" "$package"
		mkdir -p "$new/crds/$name"
		source=$(go list -C "test/kube/$name" -m -f '{{.Dir}}' "$module")
		cp "$source/$kinds"/*.yaml "$new/crds/$name/"
		rm -f "$new/crds/$name/kustomization.yaml"
		# Argo CD's repo-server runs it for each commit, whether signatures are wanted or not.
		[ "$name" != argocd ] || install -m 0755 "$source/hack/git-verify-wrapper.sh" "$new/"
		mv "$new/$name.part" "$new/$name"
		echo "gitops: $name is built ($SECONDS s)" >&2
	done
	chmod -R u+w "$new"
	mv "$new" "$dir"
	echo "gitops: built in $SECONDS s, $(du -sm "$dir" | cut -f1) MB" >&2
}

case ${1:-} in
build)
	build
	echo "$dir"
	;;
path)
	[ -d "$dir" ] || { echo "gitops: nothing built yet: scripts/gitops.sh build" >&2; exit 1; }
	echo "$dir"
	;;
*)
	sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac

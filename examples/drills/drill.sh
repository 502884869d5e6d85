# What the drills share; each of them reads this file. It runs a drill as `make test` does,
# and shows what it measured.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# usage shows the first comment of a script, which says what it does and needs.
usage() {
	sed -n '2,/^[^#]/s/^#\( \|$\)//p' "examples/drills/$(basename "$0")" >&2
	exit 2
}

need() {
	command -v "$1" >/dev/null || { echo "this drill needs $1: $2" >&2; exit 1; }
}

# drill TEST PACKAGE [COMMAND…]: COMMAND is put before the test.
drill() {
	local test=$1 package=$2
	shift 2
	# With CI=true nothing is skipped: what is missing fails the drill.
	export CI=true DRILL="${DRILL:-short}"
	"$@" go test -count=1 -timeout=120m -v -run "^$test\$" "$package" 2>&1 | sed '/^===/d; s/^    //'
}

# drill_with_clusters TEST [short|full]
drill_with_clusters() {
	export DRILL=${2:-short}
	case $DRILL in short | full) ;; *) usage ;; esac
	scripts/kube.sh build >/dev/null
	drill "$1" ./test/kube
}

need go "see CONTRIBUTING.md"

#!/usr/bin/env bash
# `make test`: installs what the tests need, checks the source, runs every test, and
# ends with the true count. With CI=true everything must be there.
set -euo pipefail
cd "$(dirname "$0")/.."

# Concurrent packages run under the race detector; the others would only be slower.
raced='^(internal/(authority|issue|journal|keys|node|revocation|server|store)|verify)(/|$)'
# What starts the built binary.
outside='^(internal/cli|test)/'
# Tests of test/kube that wait for minutes and work for seconds: each of these runs beside everything else.
waits=('^Test(Scenario8|Drill[14])_' '^TestScenarios?1[1-7](And|_)' '^Test(Scenario23_|ArgoCDIsMigrated)')

step() { printf '\n== %s (%ds)\n' "$*" "$SECONDS"; }
missing() {
	printf '\n!!! %s is missing: %s\n\n' "$1" "$2" >&2
	[ "${CI:-}" != true ] || exit 1
}

step "what the tests need"
race=-race
command -v gcc >/dev/null || scripts/apt.sh gcc libc6-dev || {
	race=
	missing gcc "the race detector needs it, so no test looks for races"
}
node_major() { node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0; }
{ [ "$(node_major)" -ge 18 ] && command -v npm >/dev/null; } || scripts/apt.sh nodejs npm || true
{ [ "$(node_major)" -ge 18 ] && command -v npm >/dev/null; } ||
	missing "Node.js 18 with npm" "the tests with JavaScript clients are skipped"
postgres=yes
scripts/postgres.sh install || {
	postgres=
	missing PostgreSQL "the tests that need it are skipped"
}
# The certificate authority with which Let's Encrypt tests ACME clients.
pebble=github.com/letsencrypt/pebble/v2/cmd
GOBIN="$PWD/.cache/tools" go install "$pebble/pebble@v2.10.1" "$pebble/pebble-challtestsrv@v2.10.1" ||
	missing Pebble "the test of automatic certificates is skipped"
# The tool of Prometheus that tests alerts. It is a module of its own, since it needs half the cloud.
mkdir -p .cache/tools && go build -C test/promtool -tags remove_all_sd -trimpath -o "$PWD/.cache/tools/promtool" github.com/prometheus/prometheus/cmd/promtool ||
	missing promtool "the test of the alerts is skipped"
# Helm, with which the charts are rendered and installed.
go build -C test/helm -trimpath -o "$PWD/.cache/tools/helm" helm.sh/helm/v4/cmd/helm ||
	missing helm "the tests of the charts are skipped"
go build -C test/openapi -trimpath -o "$PWD/.cache/tools/openapi-validate" github.com/pb33f/libopenapi-validator/cmd/validate ||
	missing openapi-validate "the check of openapi.yaml as OpenAPI 3.1 is skipped"
# Kubernetes takes minutes the first time, so it is kept outside of the checkout.
scripts/kube.sh build >/dev/null || missing kube-apiserver "the tests with Kubernetes are skipped"
# A fresh Debian, on which the package is installed.
scripts/debian.sh >/dev/null || missing "a fresh Debian" "the test of a new machine is skipped"
scripts/gitops.sh build >/dev/null || missing "Argo CD and Flux" "the tests with them are skipped"
# A keyring for the sign-ins of people at a terminal.
{ command -v gnome-keyring-daemon && command -v dbus-daemon && command -v dbus-send; } >/dev/null || scripts/apt.sh gnome-keyring dbus dbus-bin ||
	missing "GNOME Keyring" "the test with a real keyring is skipped"
command -v redis-server >/dev/null || scripts/apt.sh redis-server || missing redis-server "the tests with Argo CD are skipped"
go version
# Fetch everything before anything is timed, so that a network failure shows here.
go mod download

# The packages of a release are looked at with their own tools.
{ command -v rpm && command -v dpkg-deb; } >/dev/null || scripts/apt.sh rpm dpkg ||
	missing rpm "parts of the test of a release are skipped"

step "gofmt"
# Only files that git tracks or would add: a module cache below the tree is not our code.
unformatted=$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 -r ls 2>/dev/null | xargs -r gofmt -l)
[ -z "$unformatted" ] || { printf 'not formatted:\n%s\n' "$unformatted" >&2; exit 1; }

step "go vet"
go vet ./...

work=$(mktemp -d)
clean_up() {
	rm -rf "$work"
	[ -z "${SIGNALBOX_TEST_POSTGRES_DIR:-}" ] || scripts/postgres.sh stop
}
trap clean_up EXIT
trap 'exit 130' INT TERM

if [ -n "$postgres" ]; then
	step "a PostgreSQL of our own"
	scripts/postgres.sh start >"$work/postgres.env"
	set -a
	. "$work/postgres.env"
	set +a
fi

module=$(go list -m)
folders=$(go list ./... | sed "s#^$module\$#.#; s#^$module/##")
pick() { grep "$@" <<<"$folders" | sed 's#^#./#' || true; }
mapfile -t plain < <(pick -vE "$raced|$outside")
mapfile -t racy < <(pick -E "$raced")
mapfile -t binary < <(pick -E "$outside")

# A cached "ok" in CI would prove nothing.
fresh=
[ "${CI:-}" != true ] || fresh=-count=1

status=0
run() { # NAME of the array of packages, then flags
	local -n packages=$1
	shift
	[ "${#packages[@]}" -gt 0 ] || return 0
	go test -json -timeout=20m "$@" "${packages[@]}" || status=1
}
all_tests() {
	waiting=()
	trap 'for i in "${waiting[@]}"; do kill -- "-$i" 2>/dev/null || true; done' EXIT
	set -m # a process group each, so that all of it ends with this
	for i in "${!waits[@]}"; do
		go test -json -timeout=20m -count=1 -run "${waits[$i]}" ./test/kube >"$work/waits$i.json" &
		waiting+=($!)
	done
	set +m
	step "tests" >&2
	run plain $fresh
	step "tests under the race detector" >&2
	run racy $race $fresh
	# One package at a time, since the binary needs the whole machine, and never
	# from go's cache, which ignores the binary.
	step "tests of the built binary" >&2
	run binary -p=1 -count=1 -skip "$(IFS='|'; echo "${waits[*]}")"
	step "what has waited beside them" >&2
	for i in "${!waiting[@]}"; do
		wait "${waiting[$i]}" || status=1
		cat "$work/waits$i.json"
	done
	return $status
}
go build -o "$work/testsum" ./scripts/testsum
all_tests | "$work/testsum"

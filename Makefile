# Every target is one line that a person could type. `make` alone lists them.
.DEFAULT_GOAL := help
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0

.PHONY: help run build release site test drills lint fuzz bench vulncheck

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## start the whole service, ready to try: demo user, demo clients, a first token
	go run ./cmd/signalbox dev

build: ## make bin/signalbox: static, stripped, the same bytes from the same source
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o bin/signalbox ./cmd/signalbox

release: ## make dist/: binaries, packages, image, bills of materials, checksums, of six systems; no daemon, no network
	go run -C release .

site: ## make the documents into a site, in dist-site/ (needs Python); a link that leads nowhere fails it
	scripts/site.sh

test: ## install what the tests need (PostgreSQL, Node.js, Pebble, Kubernetes) and run every test
	scripts/test.sh

drills: ## play four incidents and show what was measured: docs/explanation/drills.md
	for drill in examples/drills/*-*.sh; do $$drill || exit 1; done

lint: ## gofmt, go vet, staticcheck, actionlint
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...
	go run $(ACTIONLINT)

fuzz: ## fuzz every target for FUZZTIME each (30s)
	scripts/fuzz.sh

bench: ## measure against the ideal handler of the same run
	go run ./bench

vulncheck: ## known holes in what we depend on (asks vuln.go.dev)
	go run $(GOVULNCHECK) ./...

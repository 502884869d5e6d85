#!/usr/bin/env bash
# Makes the documents into a site, in dist-site/. A link that leads nowhere fails it.
# The generator is Material for MkDocs, in an environment of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

env=.cache/site
if [ ! -x "$env/bin/mkdocs" ]; then
	python3 -m venv "$env"
	"$env/bin/pip" install --quiet --disable-pip-version-check 'mkdocs==1.6.1' 'mkdocs-material==9.6.14'
fi
"$env/bin/mkdocs" build --strict
echo "the site is in dist-site/"

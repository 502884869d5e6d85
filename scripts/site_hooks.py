"""Links from the documents to the code lead to the repository."""

import posixpath
import re

REPOSITORY = "https://github.com/signalbox-sts/signalbox/blob/main/"
LINK = re.compile(r"\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown, page, config, files):
    here = posixpath.dirname(posixpath.join("docs", page.file.src_uri))

    def outside(match):
        target = posixpath.normpath(posixpath.join(here, match[1]))
        if target.startswith("docs/"):
            return match[0]
        return "](" + REPOSITORY + target + (match[2] or "") + ")"

    return LINK.sub(outside, markdown)

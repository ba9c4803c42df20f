"""Hooks of mkdocs: generated pages, pages from the root, links to source files and to rules."""

import posixpath
import re
import sys
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))

import generated  # noqa: E402

FROM_ROOT: Final = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "README.md": "index.md",
}
"""Pages beside `docs`, and where they are on the site, which has a start page of its own."""

_LINK: Final = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in `docs`, and the source files to which pages link."""
    for path, text in generated.pages().items():
        files.append(File.generated(config, path, content=text))
    for name, path in FROM_ROOT.items():
        if path != "index.md":
            text = (ROOT / name).read_text("utf-8")
            files.append(File.generated(config, path, content=text))
    for path in sorted(linked_sources(files)):
        content = (ROOT / path).read_bytes()
        files.append(File.generated(config, f"source/{path}.txt", content=content))
    return files


def linked_sources(files: Files) -> set[str]:
    """The files of the project, other than pages, to which a page links."""
    return {
        target
        for file in files.documentation_pages()
        for link in _LINK.findall(file.content_string)
        if is_source(target := in_project(file.src_uri, link))
    }


def in_project(page: str, link: str) -> str:
    """The path from the root of the project to which a link leads."""
    places = {there: here for here, there in FROM_ROOT.items() if there != "index.md"}
    here = places.get(page, f"docs/{page}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(here), link))


def is_source(path: str) -> bool:
    """Whether it is a file of the project that is not a page of the site."""
    return path not in FROM_ROOT and not path.startswith("docs/") and (ROOT / path).is_file()


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links that leave `docs` lead to where the target is on the site."""
    here = page.file.src_uri

    def on_site(match: re.Match[str]) -> str:
        target = in_project(here, match[1])
        if target in FROM_ROOT:
            place = FROM_ROOT[target]
        elif is_source(target):
            place = f"source/{target}.txt"
        elif here in FROM_ROOT.values() and target.startswith("docs/"):
            place = target.removeprefix("docs/")
        else:
            return match[1]
        return posixpath.relpath(place, posixpath.dirname(here) or ".")

    return _LINK.sub(on_site, markdown)


_TAG: Final = re.compile(r"(<[^>]+>)")
_PLAIN: Final = {"a", "code", "pre", "h1", "h2", "h3", "h4", "h5", "h6", "svg", "nav", "title"}
"""In these elements, the number of a rule is no link."""


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make the number of a rule a link to it."""
    rules = posixpath.relpath("rules.html", posixpath.dirname(page.file.src_uri) or ".")
    parts, inside = _TAG.split(html), 0
    for place, part in enumerate(parts):
        if place % 2:
            if (name := re.match(r"</?(\w+)", part)) and name[1] in _PLAIN:
                inside += -1 if part.startswith("</") else 1
        elif not inside:
            parts[place] = re.sub(
                r"\bR(\d+)\b", lambda rule: f'<a href="{rules}#r{rule[1]}">R{rule[1]}</a>', part
            )
    return "".join(parts)

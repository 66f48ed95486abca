"""Hooks of mkdocs: the reference of the command line, made from its parser, and links of included files."""

from __future__ import annotations

import argparse
import os
import posixpath
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = "<!-- commands -->"
#: Files of the repository that are, or whose text is, a page of the site.
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changes.md", "pymasr/models/weights/README.md": "model-card.md"}


def on_page_markdown(markdown: str, page, **_) -> str:
    if COMMANDS in markdown:
        markdown = markdown.replace(COMMANDS, commands())
    folder = posixpath.dirname(page.file.src_uri)
    return "\n".join(relink(line, folder) for line in markdown.split("\n"))


def on_config(config, **_):
    # snippets are included by a Markdown extension, after on_page_markdown: links are rewritten when they are read
    from pymdownx import snippets

    parse = snippets.SnippetPreprocessor.parse_snippets

    def parsed(self, lines, *arguments, **options):
        return [relink(line) for line in parse(self, lines, *arguments, **options)]

    if not getattr(parse, "relinks", False):
        parsed.relinks = True
        snippets.SnippetPreprocessor.parse_snippets = parsed
    return config


def relink(line: str, folder: str = "") -> str:
    """A line whose links to files of the repository are links to pages of the site, seen from `folder` of it."""
    def target(match: re.Match) -> str:
        path = posixpath.normpath(match[2]).lstrip("./")
        return match[1] + posixpath.relpath(PAGES.get(path, path.removeprefix("docs/")), folder or ".") + match[3]

    return re.sub(r"(\]\()((?:\.\./)*(?:docs/|pymasr/|README|CHANGELOG)[^)#\s]*)([^)]*\))", target, line)


def commands() -> str:
    """Every command of `pymasr` in Markdown: description, usage, arguments."""
    os.environ["COLUMNS"] = "100"
    sys.path.insert(0, str(ROOT))
    from pymasr.cli import parser

    top = parser()
    subparsers, = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    helps = {choice.dest: choice.help for choice in subparsers._choices_actions}
    return "\n\n".join(command(name, helps.get(name), sub) for name, sub in subparsers.choices.items())


def command(name: str, summary: str | None, parser: argparse.ArgumentParser) -> str:
    formatter = parser._get_formatter()
    rows = []
    for action in parser._actions:
        if action.help in (None, argparse.SUPPRESS) or isinstance(action, argparse._HelpAction):
            continue
        if action.option_strings:
            values = "" if action.nargs == 0 else " " + formatter._format_args(action, action.dest.upper())
            names = ", ".join(f"`{option}{values}`" for option in action.option_strings)
        else:
            names = f"`{formatter._format_args(action, action.dest).strip('[]')}`"
        rows.append(f"| {names.replace('|', ESCAPED)} | {cell(formatter._expand_help(action))} |")
    text = [f"## pymasr {name}", cell(parser.description or summary or ""),
            f"```text\n{parser.format_usage().strip()}\n```"]
    if rows:
        text.append("\n".join(["| argument | meaning |", "|---|---|", *rows]))
    return "\n\n".join(text)


#: A bar within a cell of a table.
ESCAPED = "&#124;"


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", ESCAPED).replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")

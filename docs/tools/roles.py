"""Extension of griffe, which reads the docstrings for the site: Sphinx's roles, such as :func:`name`, as plain code."""

from __future__ import annotations

import re

import griffe

ROLE = re.compile(r":(?:py:)?(?:func|class|meth|mod|data|attr|exc):`(~?)([^`]+)`")


class Roles(griffe.Extension):
    def on_instance(self, *, obj, **_):
        if obj.docstring:
            obj.docstring.value = ROLE.sub(
                lambda match: f"`{match[2].rpartition('.')[2] if match[1] else match[2]}`",
                obj.docstring.value).replace("``", "`")

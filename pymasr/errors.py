"""Errors that are the caller's to mend. Everything else that is raised is a bug or the machine's fault."""

from __future__ import annotations


class InputError(ValueError):
    """An image, option or path that cannot be used; the message is one sentence that says which, why and what to do."""

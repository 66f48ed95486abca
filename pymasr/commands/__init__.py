"""The commands of ``pymasr``, each in a module of its own: ``add`` makes its parser, ``run`` does it.

Nothing heavy is imported before a command runs, so that help and usage errors come at once.
"""

"""The one place where the version number stands; setup.py, CMake and ``pymasr.__version__`` read it from here."""

__version__ = "0.1.0"

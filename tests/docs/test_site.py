"""Promise: the site builds without a warning, and its reference of the command line is the command line's."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest

from pymasr import cli

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None,
                    reason="mkdocs is not installed: pip install 'pymasr[docs]'")
def test_the_site_builds(tmp_path):
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d",
                           str(tmp_path / "site")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    site = tmp_path / "site"
    commands = (site / "cli.html").read_text(encoding="utf-8")
    assert 'id="pymasr-register"' in commands and "--no-diffeomorphic" in commands
    reference = (site / "api" / "registration.html").read_text(encoding="utf-8")
    assert "LPS mm" in reference and ":class:" not in reference
    performance = (site / "performance.html").read_text(encoding="utf-8")
    assert "convexAdam" in performance and 'href="model-card.html"' in performance  # sections of README, links mended
    assert "warp, 1 / 12 / 24 channels" in performance
    for page in ("index", "conventions", "howto/cpp", "extending"):
        assert "--8&lt;--" not in (site / f"{page}.html").read_text(encoding="utf-8")
    assert not (site / "tools").exists()


def test_every_command_and_option_is_in_the_reference():
    text = load("hooks").commands()
    subparsers = next(action for action in cli.parser()._actions if action.dest == "command")
    for name, parser in subparsers.choices.items():
        section = text[text.index(f"## pymasr {name}\n"):].partition("\n## ")[0]
        for action in parser._actions:
            for option in action.option_strings:
                assert option in section or option in ("-h", "--help")


def test_links_of_included_files():
    relink = load("hooks").relink
    assert relink("[card](pymasr/models/weights/README.md) ![x](../../../docs/y.png) [z](docs/itk.md#a) [w](a.md)") == (
        "[card](model-card.md) ![x](y.png) [z](itk.md#a) [w](a.md)")
    assert relink("[card](../../pymasr/models/weights/README.md)", "howto") == "[card](../model-card.md)"


def test_the_picture_is_drawn(tmp_path):
    load("draw_conventions").draw(tmp_path / "conventions.svg")
    assert (tmp_path / "conventions.svg").read_text(encoding="utf-8").startswith("<?xml")

"""--config and --dump-config: the options of a command from a file, and into one."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from pymasr import config
from pymasr.errors import InputError

#: What no configuration holds: how a command talks, and where its options come from.
NOT_CONFIGURED = ("help", "set", "verbose", "quiet", "config_file", "dump_config")


def add_configuration(parser: argparse.ArgumentParser, required: Sequence[str]) -> None:
    """Give a command the two options. `required` are those of its arguments that must come from the command line or the
    file; argparse must not ask for them itself."""
    parser.add_argument("--config", metavar="FILE", dest="config_file",
                        help="take the options from a YAML or JSON file, such as --dump-config prints, or from the "
                             "report.json of a run that is to be repeated; what the command line says counts more")
    parser.add_argument("--dump-config", action="store_true",
                        help="print all options, as they would be used, as YAML for --config, and do nothing else")
    parser.set_defaults(finish=lambda chosen, parse: _finish(chosen, parse, required))


def _finish(chosen: argparse.Namespace, parse: Callable[[], argparse.Namespace],
            required: Sequence[str]) -> argparse.Namespace:
    """The options with those of the configuration; `parse` reads the command line again."""
    parser, settings = chosen.parser, {}
    if chosen.config_file is not None:
        actions = configured(parser)
        content = config.load(chosen.config_file, actions)
        settings = config.settings_of(content, chosen.config_file)
        parser.set_defaults(**{name: _checked(actions[name], value, chosen.config_file)
                               for name, value in content.items() if name != "settings"})
        chosen = parse()
    chosen.settings = settings
    missing = [_name(configured(parser)[name]) for name in required if getattr(chosen, name) is None]
    if missing and not chosen.dump_config:
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    return chosen


def configured(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The options that a configuration may hold."""
    return {action.dest: action for action in parser._actions if action.dest not in NOT_CONFIGURED}


def _name(action: argparse.Action) -> str:
    return "/".join(action.option_strings) or str(action.metavar)


def _checked(action: argparse.Action, value: Any, file: str) -> Any:
    """`value` as the command line would have given it."""
    def require(holds: bool, expected: str) -> None:
        if not holds:
            raise InputError(f"configuration {file}: {action.dest} must be {expected}, got {value!r}")

    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        require(isinstance(value, bool), "true or false")
    elif action.choices is not None:
        require(value in action.choices, f"one of {', '.join(action.choices)}")
    elif action.type is not None and not isinstance(value, list):
        try:
            return action.type(str(value))
        except argparse.ArgumentTypeError as error:
            raise InputError(f"configuration {file}: {action.dest} {error}") from error
        except ValueError:
            require(False, "a whole number" if action.type is int else "a number")
    elif action.dest == "initial" and isinstance(value, list):  # a matrix, as reports of runs from Python have it
        pass
    elif isinstance(action, argparse._AppendAction) or action.nargs in ("+", "*"):
        require(isinstance(value, list) and all(isinstance(entry, str) for entry in value), "a list of texts")
    else:
        require(isinstance(value, str), "text")
    return value

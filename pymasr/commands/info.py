"""``pymasr info``: what this installation is."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add(commands: Any) -> None:
    parser = commands.add_parser("info", allow_abbrev=False, help="versions, instruction set, threads, CUDA",
                                 description="Print what this installation is and what it can use on this machine.")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run, parser=parser)


def run(chosen: argparse.Namespace) -> None:
    from pymasr.runtime import info

    facts = info()
    if chosen.json:
        print(json.dumps(facts, indent=2))
        return
    for name, version in facts["versions"].items():
        print(f"{name:16s} {version or 'not installed'}")
    print(f"{'platform':16s} {facts['platform']}")
    print(f"{'compiler':16s} {facts['compiler']}")
    used, best = facts["instruction_set"]["used"], facts["instruction_set"]["best"]
    print(f"{'instruction set':16s} {used} (best here: {best}; MASR_ISA=baseline|avx2|avx512 chooses)")
    print(f"{'threads':16s} {facts['threads']}")
    cuda = facts["cuda"]
    print(f"{'CUDA':16s} {'built' if cuda['built'] else 'not built'}, "
          f"{'usable' if cuda['usable'] else 'not usable: ' + cuda['reason']}")

"""Which descriptors are compared, and how much each counts: "masr", "dns(noise=0.001)", "dsir + 0.5 * mind"."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import re
from dataclasses import dataclass

from pymasr.errors import InputError
from pymasr.features.descriptors import Descriptor, IntensityDNS, Mind
from pymasr.features.dsir import Dsir

#: Names of the descriptors.
DESCRIPTORS: dict[str, type] = {"dsir": Dsir, "mind": Mind, "dns": IntensityDNS}


#: Names of sums. The DSIR finds the place and holds on to it through noise; the plain DNS, which reads nothing but the
#: nearest voxels, adds the last tenth of one.
SUMS = {"masr": "dsir + 3 * dns"}


#: Stands for normalised mutual information of the intensities, where it can take the place of descriptors.
NMI = "nmi"


@dataclass(frozen=True)
class Term:
    """A descriptor and its weight in the similarity, relative to the other terms'."""

    weight: float
    descriptor: Descriptor


def parse(text: str) -> tuple[Term, ...]:
    """The terms of a sum of descriptors.

    A term is a name (``dsir``, ``mind``, ``dns``), with parameters if wanted (``mind(radius=2, dilation=2)``,
    ``dns(dilations=(1, 3), noise=0.001)``: the attributes of :class:`~pymasr.features.Dsir`,
    :class:`~pymasr.features.Mind` and :class:`~pymasr.features.IntensityDNS`), and with a weight before it if wanted
    (``0.5 * dns``). ``masr`` stands for ``dsir + 3 * dns``; a weight before it counts for the sum.

    Raises InputError with one sentence for anything else.
    """
    if not isinstance(text, str):
        raise InputError(f"features must be text such as masr or mind + 0.5 * dns, got {text!r}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise _unreadable(text) from error
    return tuple(_terms(tree, text))


def terms_of(text: str) -> tuple[Term, ...]:
    """The terms of :func:`parse`; none for "nmi". InputError where that is part of something."""
    if text == NMI:
        return ()
    if isinstance(text, str) and re.search(rf"\b{NMI}\b", text):
        raise InputError(f"features: {NMI} cannot be part of a sum and takes no weight or parameters, got {text!r}")
    return parse(text)


def _terms(node: ast.expr, text: str) -> list[Term]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _terms(node.left, text) + _terms(node.right, text)
    weight = 1.0
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        weight, node = _literal(node.left, text), node.right
        if not isinstance(weight, (int, float)) or isinstance(weight, bool) or not 0 < weight < float("inf"):
            raise InputError(f"features: a weight must be a positive number, got {weight!r} in {text!r}")
    if isinstance(node, ast.Name) and node.id in SUMS:
        terms = parse(SUMS[node.id])
        return [Term(weight * term.weight / sum(t.weight for t in terms), term.descriptor) for term in terms]
    if isinstance(node, ast.Name):
        return [Term(float(weight), _descriptor(node.id, {}))]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
        return [Term(float(weight), _descriptor(node.func.id, {k.arg: _literal(k.value, text) for k in node.keywords}))]
    raise _unreadable(text)


def _descriptor(name: str, parameters: dict) -> Descriptor:
    if name in SUMS:
        raise InputError(f"features: {name} takes no parameters, it stands for {SUMS[name]}: give them to these")
    if name not in DESCRIPTORS:
        *others, last = [*SUMS, *DESCRIPTORS]
        raise InputError(f"features: there is no descriptor called {name}, expected {', '.join(others)} or {last}")
    kind = DESCRIPTORS[name]
    known = [field.name for field in dataclasses.fields(kind)]
    for given in parameters:
        if given not in known:
            near = difflib.get_close_matches(str(given), known, 1)
            raise InputError(f"features: {name} has no parameter {given}, "
                             + (f"did you mean {near[0]}?" if near else f"expected {' or '.join(known)}"))
    return kind(**parameters)


def _literal(node: ast.expr, text: str):
    try:
        return ast.literal_eval(node)
    except (TypeError, ValueError) as error:
        raise _unreadable(text) from error


def _unreadable(text: str) -> InputError:
    return InputError(f"features must be descriptors added up, such as masr, dns(noise=0.001) or mind + 0.5 * dns, "
                      f"got {text!r}")

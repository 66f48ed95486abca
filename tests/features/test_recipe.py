"""What users write for features is read exactly, and anything else is refused in a sentence that helps."""

import pytest

from pymasr.errors import InputError
from pymasr.features import Dsir, IntensityDNS, Mind, Term, parse


@pytest.mark.parametrize("text, terms", [
    ("mind", [Term(1.0, Mind())]),
    (" dns ", [Term(1.0, IntensityDNS())]),
    ("mind(radius=2, dilation=3)", [Term(1.0, Mind(2, 3))]),
    ("mind + 0.5 * dns(dilations=(1, 3), noise=0.01)", [Term(1.0, Mind()), Term(0.5, IntensityDNS((1, 3), 0.01))]),
    ("2*mind+mind(dilation=2)+dns()", [Term(2.0, Mind()), Term(1.0, Mind(1, 2)), Term(1.0, IntensityDNS())]),
])
def test_sums_of_descriptors(text, terms):
    assert list(parse(text)) == terms


def test_the_name_of_a_sum_counts_once():
    assert list(parse("masr + 2 * mind")) == [Term(0.25, Dsir()), Term(0.75, IntensityDNS()), Term(2.0, Mind())]


@pytest.mark.parametrize("text, message", [
    ("nmi", "no descriptor called nmi, expected masr, dsir, mind or dns"),
    ("mind +", "must be descriptors added up"),
    ("mind - dns", "must be descriptors added up"),
    ("mind(2)", "must be descriptors added up"),
    ("mind(radius=open('x'))", "must be descriptors added up"),
    ("mind(radius={[]: 1})", "must be descriptors added up"),
    ("__import__('os')", "must be descriptors added up"),
    ("", "must be descriptors added up"),
    (3, "must be text"),
    ("mind(radios=2)", "mind has no parameter radios, did you mean radius"),
    ("mind(radius=-1)", "radius of mind must be a whole number of at least 0, got -1"),
    ("mind(dilation=1.5)", "dilation of mind must be a whole number of at least 1, got 1.5"),
    ("dns(dilations=2)", "dilations of dns must be a tuple"),
    ("dns(dilations=())", "dilations of dns must be a tuple"),
    ("dns(dilations=(0,))", "dilations of dns must be a whole number of at least 1"),
    ("dns(noise=0)", "noise of dns must be a positive number"),
    ("masr(weights='masr')", "masr takes no parameters, it stands for dsir \\+ 3 \\* dns"),
    ("0 * mind", "a weight must be a positive number, got 0"),
    ("'a' * mind", "a weight must be a positive number"),
])
def test_anything_else_is_refused_in_one_sentence(text, message):
    with pytest.raises(InputError, match=message) as raised:
        parse(text)
    assert str(raised.value).startswith("features") and "\n" not in str(raised.value)

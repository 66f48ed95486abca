"""Promise: the memory of a stage is its own, not that of an earlier one."""

import sys

import numpy as np
import pytest

from pymasr._stages import stage


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets the mark be reset")
def test_peak_memory_is_that_of_the_stage():
    stages = []
    with stage("small before", stages):
        pass
    with stage("large", stages):
        block = np.ones(200 << 20, np.uint8)
        del block
    with stage("small after", stages):
        pass
    before, large, after = (s["peak_memory_mib"] for s in stages)
    assert large > before + 180 and large > after + 180


def test_a_stage_that_fails_is_not_listed():
    stages = []
    with pytest.raises(RuntimeError), stage("failing", stages):
        raise RuntimeError
    assert stages == []

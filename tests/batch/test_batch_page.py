"""Promise: the code of docs/batch.md runs; that for SLURM with workers in place of jobs."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import types

import distributed
import pytest
import small_scans

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(<!-- not run: .*? -->\n)?```(bash|python)\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The scans that the page names, and a command `pymasr`."""
    fixed, moving = small_scans.scans(tmp_path / "in", fixed=2, moving=1, size=20)
    for name, file in (("fixed_t2", fixed[0]), ("moving_t1", moving[0]), ("ct", fixed[1]), ("mr", moving[0]),
                       ("t1", moving[0])):
        shutil.copy(file, tmp_path / f"{name}.nii.gz")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pymasr").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pymasr.cli "$@"\n')
    (tmp_path / "bin" / "pymasr").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_code_of_the_page_runs(folder, capsys):
    names = {}
    for reason, language, code in BLOCKS:
        if language == "bash" and not reason:
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", code], capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
        elif not reason:
            exec(compile(code, "batch.md", "exec"), names)
    assert capsys.readouterr().out.startswith("anna done 0.")
    for name in ("results/bert/transform.h5", "template/template_T2.nii.gz", "mean/template.nii.gz",
                 "study/derivatives/pymasr/sub-01/anat/sub-01_space-T1w_T2w.nii.gz"):
        assert (folder / name).exists(), name


def test_code_for_slurm_runs(folder, capsys, monkeypatch):
    asked = {}

    class Local(distributed.LocalCluster):
        """Workers in this process."""

        def __init__(self, **options):
            asked.update(options)
            super().__init__(n_workers=0, threads_per_worker=1, processes=False, protocol="tcp",
                             dashboard_address="127.0.0.1:0")

        def scale(self, jobs):
            asked.setdefault("jobs", jobs)
            return super().scale(min(jobs, 1))

    monkeypatch.setitem(sys.modules, "dask_jobqueue", types.SimpleNamespace(SLURMCluster=Local))
    (folder / "pairs.csv").write_text("id,fixed,moving,features,preset\na,ct.nii.gz,mr.nii.gz,dns,fast\n")
    code, = (code for _, _, code in BLOCKS if "SLURMCluster" in code)
    names = {"__name__": "__main__"}
    exec(compile(code, "batch.md", "exec"), names)
    names["cluster"].close()
    assert asked["jobs"] == 50 and asked["processes"] == 1
    assert capsys.readouterr().out == "1 of 1 pairs are done\n"

"""The mean of a group of scans: its shape, and its intensities."""

from pymasr.template.build import Construction, Template, build_template
from pymasr.template.group import Subject, read_group, subjects_of

__all__ = ["Construction", "Subject", "Template", "build_template", "read_group", "subjects_of"]

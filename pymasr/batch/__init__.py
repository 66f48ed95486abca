"""Many registrations: pairs from a table or a BIDS dataset, on the processes of this machine or of a Dask cluster."""

from pymasr.batch.bids import find_pairs
from pymasr.batch.manifest import read_manifest
from pymasr.batch.pairs import Pair
from pymasr.batch.runner import Watcher, register_pairs
from pymasr.batch.workers import Crew, Workers

__all__ = ["Crew", "Pair", "Watcher", "Workers", "find_pairs", "read_manifest", "register_pairs"]

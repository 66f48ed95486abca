"""What a batch keeps of its pairs in its output directory: a lock, and a record of each that was tried."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import shutil
import socket
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace

from pymasr._output import require_writable, whole_file
from pymasr.batch import content
from pymasr.batch.pairs import Pair
from pymasr.errors import InputError
from pymasr.registration.result import FILES

#: Folder of the batch's own files in the output directory.
FOLDER = ".pymasr-batch"
DONE, FAILED, PUBLISHING = "done", "failed", "publishing"


@dataclass(frozen=True)
class Record:
    """What became of a pair.

    Attributes:
        id: of the pair.
        status: :data:`DONE`, :data:`FAILED`, or :data:`PUBLISHING` while results are put where they belong.
        version: of pymasr.
        settings: what decided the result, see :func:`pymasr.batch.pairs.resolved`.
        inputs: descriptions of the files (:func:`pymasr.batch.content.describe`) by what they are.
        outputs: descriptions of the results by their path relative to the output directory.
        facts: what the summary says of the result.
        reason: why it failed.
        attempts: how often it was begun in its last run: more than once where workers died.
    """

    id: str
    status: str
    version: str
    settings: dict
    inputs: dict[str, dict]
    outputs: dict[str, dict] = field(default_factory=dict)
    facts: dict = field(default_factory=dict)
    reason: str = ""
    attempts: int = 1


class Store:
    """The records of a batch in `directory`, which is made where it is missing."""

    def __init__(self, directory: str | os.PathLike):
        self.directory = pathlib.Path(directory).absolute()
        self._own = self.directory / FOLDER
        self.scratch = self._own / "scratch"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """No other batch works in the directory meanwhile; InputError where one does already.

        The operating system holds the lock, so that it ends with the process, however that ends. Where the file system
        has none, there is a warning instead.
        """
        require_writable(self.directory)
        self._own.mkdir(parents=True, exist_ok=True)
        with (self._own / "lock").open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise InputError(f"output directory {self.directory}: another batch works in it "
                                 f"({file.read().strip() or 'just begun'}); wait for its end, or give another "
                                 "directory") from None
            except OSError as error:
                warnings.warn(f"output directory {self.directory}: its file system has no locks "
                              f"({error.strerror}); see to it that no other batch works in it", stacklevel=3)
            file.truncate(0)
            now = datetime.datetime.now().isoformat(" ", "seconds")
            file.write(f"process {os.getpid()} on {socket.gethostname()}, since {now}\n")
            file.flush()
            # left over by a run that was killed
            shutil.rmtree(self.scratch, ignore_errors=True)
            try:
                yield
            finally:
                shutil.rmtree(self.scratch, ignore_errors=True)

    def record(self, name: str) -> Record | None:
        """The record of a pair's id; None where there is none, or none that can be read."""
        try:
            return Record(**json.loads(self._file(name).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, record: Record) -> None:
        write_text(self._file(record.id), json.dumps(asdict(record), indent=1) + "\n")

    def thumbnail(self, name: str) -> pathlib.Path:
        """Where the small picture of a pair is."""
        return self._own / "thumbnails" / f"{name}.jpg"

    def attempt(self, name: str) -> pathlib.Path:
        """A new empty folder for one attempt at a pair; that it exists says that the attempt began."""
        folder = self.scratch / name / uuid.uuid4().hex
        folder.mkdir(parents=True)
        return folder

    def attempts(self, name: str) -> int:
        """How often a pair was begun in this run."""
        with contextlib.suppress(OSError):
            return sum(1 for _ in (self.scratch / name).iterdir())
        return 0

    def forget(self, name: str) -> None:
        """Remove what the attempts at a pair left."""
        shutil.rmtree(self.scratch / name, ignore_errors=True)

    def publish(self, pair: Pair, folder: pathlib.Path, outputs: dict[str, dict], record: Record) -> Record:
        """Put the results in `folder` where they belong, and only then write the record.

        Args:
            outputs: descriptions of the results by their names in `folder`.

        Returns:
            The record with the places of the results.
        """
        described = {pair.destination(name): {**description, "path": pair.destination(name)}
                     for name, description in outputs.items()}
        earlier = self.record(pair.id)
        self.write(replace(record, status=PUBLISHING, outputs=described))
        for name in outputs:
            place = self.directory / pair.destination(name)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(folder / name, place)
        for place in set(earlier.outputs if earlier else {}) - set(described):
            (self.directory / place).unlink(missing_ok=True)  # an earlier run made it and this one does not
        small = folder / "thumbnail.jpg"
        if small.exists():
            self.thumbnail(pair.id).parent.mkdir(exist_ok=True)
            os.replace(small, self.thumbnail(pair.id))
        record = replace(record, outputs=described)
        self.write(record)
        return record

    def fail(self, record: Record) -> Record:
        """Write the record of a pair that failed; results of an earlier run stay, and the reason says so."""
        earlier = self.record(record.id)
        if earlier is not None and earlier.status == DONE:
            record = replace(record, outputs=earlier.outputs,
                             reason=f"{record.reason} (what is there is the result of an earlier run)")
        self.write(record)
        return record

    def _file(self, name: str) -> pathlib.Path:
        return self._own / "records" / f"{name}.json"


def write_text(file: pathlib.Path, text: str) -> None:
    """Write a file whole or not at all; its folder is made."""
    with whole_file(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class State:
    """Whether a pair is to be registered.

    Attributes:
        kind: "new"; "done"; "failed", with the same inputs and settings; or "stale": there is a result, of other inputs
            or settings.
        why: of a stale one, what differs.
        record: from before, if any.
    """

    kind: str
    why: str
    record: Record | None


def state_of(store: Store, pair: Pair, settings: dict, files: dict[str, str], version: str, *,
             verify: bool = False) -> State:
    """Compare a pair with its record.

    Args:
        settings: of the pair, resolved.
        files: paths by what they are.
        version: of pymasr.
        verify: read all files again, also those whose size and time are what they were.
    """
    record = store.record(pair.id)
    if record is None:
        there = [place for place in map(pair.destination, FILES) if (store.directory / place).exists()]
        return State("stale", f"{there[0]} is there, of which the batch knows nothing", None) if there else \
            State("new", "", None)
    if record.status == PUBLISHING:
        return State("new", "it was interrupted", record)
    difference = _difference(record, settings, files, version, verify)
    if record.status == FAILED:
        return State("new" if difference else "failed", difference, record)
    missing = [place for place in record.outputs if not (store.directory / place).exists()]
    if len(missing) == len(record.outputs):
        return State("new", "its results are gone", record)
    if difference:
        return State("stale", difference, record)
    if missing:
        return State("new", f"{missing[0]} is gone", record)
    changed = [place for place, known in record.outputs.items()
               if content.describe(store.directory / place, known, verify=verify)["sha256"] != known["sha256"]]
    return State("stale", f"{changed[0]} was changed", record) if changed else State("done", "", record)


def _difference(record: Record, settings: dict, files: dict[str, str], version: str, verify: bool) -> str:
    """What distinguishes a pair from its record; empty where nothing does."""
    if record.version != version:
        return f"it was made by pymasr {record.version}, this is {version}"
    for name in sorted(set(settings) | set(record.settings), key=lambda name: (name != "preset", name)):
        if settings.get(name) != record.settings.get(name):
            return f"{name} was {record.settings.get(name)!r}, now it is {settings.get(name)!r}"
    for role in sorted(set(files) ^ set(record.inputs)):
        return f"its {role.replace('_', ' ')} {'is new' if role in files else 'is not given any more'}"
    for role, path in files.items():
        known = record.inputs[role]
        if content.describe(path, known, verify=verify)["sha256"] != known["sha256"]:
            return f"its {role.replace('_', ' ')} is another one"
    return ""

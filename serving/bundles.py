"""Versions that have served, kept on local disk: what serves while the registry is away.

A bundle is a folder: the version's files as downloaded, and `bundle.json` with its tags and a hash
of each file. Beside the bundles, `line.json` says what the registry said last. Only a version that
passed every check is kept.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from feature_repo.contracts.errors import ModelError
from feature_repo.contracts.settings import Settings
from serving.assignments import Assignment
from serving.orders import file_name, write_whole

log = logging.getLogger(__name__)

_BUNDLE = "bundle.json"
_LINE = "line.json"
SPARE = 3  # further versions kept of a model, the latest: a way back needs one


def bundles_at(settings: Settings) -> Path:
    """Where a home keeps its bundles."""
    return settings.home / "models"


class _Contents(msgspec.Struct, frozen=True):
    name: str
    version: str
    created_ms: int
    tags: dict[str, str]
    files: dict[str, str]


@dataclass(frozen=True)
class Bundle:
    """One version on disk: where its files are, its tags, and when it was created (epoch ms)."""

    folder: Path
    tags: Mapping[str, str]
    created_ms: int


class BundleStore:
    """The bundles of one home. Processes share it: folders appear and go whole.

    Trap: it blocks on the disk; for the thread that loads models, never for a request.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, name: str, version: str) -> Bundle | None:
        """A version's bundle, or None where there is none, or one that was damaged."""
        folder = self._place(name, version)
        try:
            contents = msgspec.json.decode((folder / _BUNDLE).read_bytes(), type=_Contents)
            for file, digest in contents.files.items():
                if _digest(folder / file) != digest:
                    raise ModelError(f"{file} of the bundle", expected="the bytes that were stored")
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, ModelError) as error:
            log.warning("the kept %s version %s is damaged, not used: %s", name, version, error)
            return None
        return Bundle(folder, contents.tags, contents.created_ms)

    def keep(
        self, name: str, version: str, created_ms: int, tags: Mapping[str, str], files: Path
    ) -> None:
        """Keep a version whose files are in a folder, in place of one of the same number."""
        place = self._place(name, version)
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=place.parent) as draft:
            folder = Path(draft, "bundle")
            shutil.copytree(files, folder)
            digests = {}
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    digests[str(path.relative_to(folder))] = _digest(path, sync=True)
            contents = _Contents(name, version, created_ms, dict(tags), digests)
            write_whole(folder / _BUNDLE, msgspec.json.encode(contents))
            if place.exists():
                # Out of the way first: a folder cannot take the place of a full one.
                place.rename(Path(draft, "former"))
            folder.rename(place)

    def retag(self, bundle: Bundle, tags: Mapping[str, str]) -> None:
        """Write down a kept version's tags as they are now; its files never change."""
        if dict(bundle.tags) != dict(tags):
            path = bundle.folder / _BUNDLE
            contents = msgspec.json.decode(path.read_bytes(), type=_Contents)
            contents = msgspec.structs.replace(contents, tags=dict(tags))
            write_whole(path, msgspec.json.encode(contents))

    def prune(self, name: str, needed: Iterable[str]) -> None:
        """Let go of a model's versions that nothing needs, but for the latest SPARE."""
        folder = self._folder / file_name(name)
        kept = {file_name(version) for version in needed}
        others = [
            path for path in folder.iterdir()
            if path.name not in kept and not path.name.startswith(".")
        ] if folder.is_dir() else []  # fmt: skip
        for path in sorted(others, key=lambda path: path.stat().st_mtime)[:-SPARE]:
            shutil.rmtree(path, ignore_errors=True)

    def write_line(self, assignments: Mapping[str, Assignment]) -> None:
        """Write down what the registry says now."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._folder / _LINE, msgspec.json.encode(assignments))

    def read_line(self) -> dict[str, Assignment]:
        """What the registry said last; nothing where that is not known."""
        path = self._folder / _LINE
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, Assignment])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("%s cannot be read, as if there were none: %s", path, error)
            return {}

    def _place(self, name: str, version: str) -> Path:
        return self._folder / file_name(name) / file_name(version)


def _digest(path: Path, *, sync: bool = False) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if sync:
            os.fsync(file.fileno())
    return digest

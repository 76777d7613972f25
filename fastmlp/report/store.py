"""Result files: one per piece of work, written in one step, trusted only if it is whole and of the same question."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastmlp import __version__
from fastmlp.errors import FastmlpError, ModelFormatError
from fastmlp.report.jobs import Job
from fastmlp.runs import json_ready, read_regular, replacing

if TYPE_CHECKING:
    from fastmlp.network import Network
    from fastmlp.report.experiments import Protocol

_FORMAT = 1
_LONGEST = 1 << 26


class Store:
    """The results in a folder.

    Parameters
    ----------
    folder : Path
        Where they are; it must exist to save one.
    protocol : Protocol
        How the trainings are done.
    fingerprint : str
        Of the data.
    """

    def __init__(self, folder: Path, protocol: Protocol, fingerprint: str) -> None:
        self.folder, self.protocol, self.fingerprint = folder, protocol, fingerprint

    def save(self, job: Job, result: dict[str, Any], network: Network) -> None:
        """Write a result; the network first, so that a result without one is never found.

        Raises
        ------
        FastmlpError
            If a file cannot be written.
        """
        content = json.dumps(json_ready(result), allow_nan=False)
        network_digest = None
        if job.keeps_network:
            with replacing(self.network_path(job)) as temporary:
                network.save(temporary)
                network_digest = _digest(temporary.read_bytes())
        document = {
            "key": self._key(job),
            "digest": _digest(content.encode()),
            "network_digest": network_digest,
            "content": content,
        }
        with replacing(self._path(job)) as temporary:
            temporary.write_text(json.dumps(document) + "\n", encoding="utf-8")

    def load(self, job: Job) -> dict[str, Any] | None:
        """Read a result; None if there is none, or it is damaged or the answer to another question."""
        try:
            document = json.loads(read_regular(self._path(job), _LONGEST))
            content = document["content"]
            whole = document["key"] == self._key(job) and document["digest"] == _digest(content.encode())
            if whole and job.keeps_network:
                whole = document["network_digest"] == _digest(read_regular(self.network_path(job)))
            result = json.loads(content) if whole else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return result if isinstance(result, dict) else None

    def load_network(self, job: Job) -> Network:
        """Read the network that a training ended with.

        Raises
        ------
        FastmlpError
            If it was lost since the training.
        """
        from fastmlp.network import Network

        try:
            return Network.load(self.network_path(job))
        except ModelFormatError as error:
            raise FastmlpError(f"{error}; run again with --resume") from error

    def remove_remains(self) -> None:
        """Delete what a killed run left half-written."""
        for path in self.folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)

    def network_path(self, job: Job) -> Path:
        """File of the trained network."""
        return self.folder / f"{job.name}.safetensors"

    def _path(self, job: Job) -> Path:
        return self.folder / f"{job.name}.json"

    def _key(self, job: Job) -> str:
        """Everything that the result depends on; the title of an experiment and its tasks do not matter."""
        described = dataclasses.asdict(job)
        for word in ("title", "tasks"):
            del described["experiment"][word]
        question = {
            "format": _FORMAT,
            "version": __version__,
            "job": described,
            "protocol": dataclasses.asdict(self.protocol),
            "data": self.fingerprint,
        }
        return _digest(json.dumps(question, sort_keys=True).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

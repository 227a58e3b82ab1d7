"""What an analysis is identified by: its settings, the hashes of its models, the code."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING

from longact_cli import __version__

if TYPE_CHECKING:
    from longact_cli.analysis.settings import AnalysisSettings
    from longact_cli.reporting.table import Provenance

_VALUED = ("--out", "--runs-dir", "--tracking-uri", "--format")
_FLAGS = ("--json", "--quiet", "-q", "--verbose", "-v", "--no-color")
_SHOWN_DIGITS = 12


@dataclass(frozen=True)
class Identity:
    """Settings and models of an analysis.

    Attributes:
        settings: As plain values; the folders of models are left out.
        models: Hash of the weights by label, those of trained pairs included.
        data: Hashes of prompt files.
    """

    settings: Mapping[str, object]
    models: Mapping[str, str]
    data: Mapping[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 of settings, models and prompt files, in hex."""
        from longact_cli.files import sha256_json

        return sha256_json([dict(self.settings), dict(self.models), dict(self.data)])

    def provenance(self, command: Sequence[str]) -> "Provenance":
        """Return what stands in every file; the same analysis has the same one wherever it lies."""
        from longact_cli.execution.provenance import git_state
        from longact_cli.reporting.table import Provenance

        commit, _ = git_state(Path(__file__).parent)
        models = (f"{label} {digest[:_SHOWN_DIGITS]}" for label, digest in self.models.items())
        return Provenance(
            command=join(command),
            version=__version__,
            study=f"analysis {self.digest[:_SHOWN_DIGITS]}",
            commits=(commit,) if commit else (),
            cells=(),
            models=tuple(models),
        )

    def manifest(self, command: Sequence[str], started: float) -> Mapping[str, object]:
        """Return the facts of the manifest, times included."""
        from longact_cli.execution.provenance import git_state, package_versions

        commit, dirty = git_state(Path(__file__).parent)
        return {
            "digest": self.digest,
            "command": join(command),
            "settings": self.settings,
            "models": self.models,
            "data": self.data,
            "longact": __version__,
            "git_commit": commit,
            "git_dirty": dirty,
            "packages": package_versions(),
            "python": platform.python_version(),
            "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def identify(settings: "AnalysisSettings") -> Identity:
    """Return the identity of an analysis; reads the weights' hashes, loads nothing.

    Raises:
        ConfigError: A model resolves to no checkpoint.
    """
    from longact_cli.execution.revision import model_revision
    from longact_cli.files import sha256_file

    models = {subject.label: model_revision(subject.model) for subject in settings.subjects}
    for change in settings.changes:
        models[f"{change.label}, before"] = model_revision(change.before)
        models[f"{change.label}, after"] = model_revision(change.after)
    plain: dict[str, object] = {
        "length": settings.contexts[0].length,
        "short_length": settings.contexts[1].length,
        "sites": list(settings.sites),
        "statistics": list(settings.statistics),
        "strategies": list(settings.strategies),
        "sparsity": settings.sparsity,
        "prompts": settings.prompts,
        "seeds": list(settings.seeds),
        "tasks": list(settings.tasks),
        "chat_template": settings.chat_template,
    }
    files = {path.name: sha256_file(path) for path in settings.files if path is not None}
    return Identity(plain, models, files)


def repeatable(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return a command line without what only says where and how its results are put."""
    kept = []
    skip = False
    for word in arguments[1:]:
        if skip:
            skip = False
        elif word in _VALUED:
            skip = True
        elif word not in _FLAGS and not word.startswith(tuple(f"{name}=" for name in _VALUED)):
            kept.append(word)
    return ("longact", *kept)

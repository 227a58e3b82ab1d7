"""`longact eval --rescore`: score stored predictions, no model needed."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from longact_cli.console.output import Output


def rescore_file(
    output: "Output", bench: str, source: Path, *, scorer: str | None, out: Path | None
) -> int:
    """Score a file of predictions and print its summary; return the exit code.

    Raises:
        ConfigError: A file or row is wrong, or more than one benchmark was named.
    """
    from longact_cli.console.rescored import show_rescored
    from longact_cli.errors import ConfigError
    from longact_cli.evaluation.rescore import rescore, summary_json

    if "," in bench:
        raise ConfigError(f"--bench is {bench}; --rescore takes the predictions of one benchmark")
    summary = rescore(bench, source, scorer=scorer, out=out)
    output.data(dict(json.loads(json.dumps(summary_json(summary)))))
    show_rescored(output, summary)
    if out is not None:
        output.note(f"scored rows: {out}")
    return 0

"""`longact mask`: masks as files, for other trainers and other runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longact_cli.cli import options as opt

if TYPE_CHECKING:
    from longact_cli.console.output import Output
    from longact_cli.masking.mask_file import SavedMask

app = typer.Typer(name="mask", help="Write and read update masks as files.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Write and read update masks as files."""


@app.command("export")
@opt.guarded
def export(
    out: Annotated[Path, typer.Option("--out", help="File to write, e.g. mask.safetensors.")],
    overrides: opt.Overrides = None,
    model: opt.Model = None,
    mask: opt.Mask = None,
    sparsity: opt.Sparsity = None,
    seed: Annotated[str | None, typer.Option("--seed", help="Seed of prompts and masks.")] = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    no_color: opt.NoColor = False,
) -> None:
    """Write the mask that the first training step would use; nothing is trained.

    Example: longact mask export --model micro --mask salient --sparsity 0.3 --out mask.safetensors
    """
    from longact_cli.config.compose import compose
    from longact_cli.config.sweep import model_choices
    from longact_cli.errors import ConfigError
    from longact_cli.training.export_mask import export_mask

    output = opt.make_output(json=json, quiet=quiet, no_color=no_color)
    settings = [("mask", mask), ("mask.sparsity", sparsity), ("seed", seed)]
    choices = model_choices(model)
    if len(choices) > 1:
        raise ConfigError(f"--model is '{model}'; a mask belongs to one model")
    config = compose([*choices[0], *opt.assignments(settings, overrides)])
    _show(output, out, export_mask(config, out))


@app.command("show")
@opt.guarded
def show(
    file: Annotated[Path, typer.Argument(help="A file that `longact mask export` wrote.")],
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    no_color: opt.NoColor = False,
) -> None:
    """Print where a mask comes from and how many rows it updates.

    Example: longact mask show mask.safetensors
    """
    from longact_cli.masking.mask_file import load_mask

    output = opt.make_output(json=json, quiet=quiet, no_color=no_color)
    _show(output, file, load_mask(file))


def _show(output: "Output", path: Path, saved: "SavedMask") -> None:
    from longact_cli.masking.report import rows_ratio

    rows = sum(len(updated) for updated in saved.mask.values())
    ratio = rows_ratio(saved.mask)
    output.show(f"{path}: {len(saved.mask)} projections, {rows} rows, {ratio:.1%} updated")
    for name, value in saved.manifest._asdict().items():
        output.show(f"  {name:15} {value}")
    output.show(f"  {'sha256':15} {saved.sha256}")
    output.data(
        {
            "event": "mask",
            "path": str(path),
            "projections": len(saved.mask),
            "rows": rows,
            "update_ratio": ratio,
            "sha256": saved.sha256,
            **saved.manifest._asdict(),
        }
    )

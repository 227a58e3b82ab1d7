"""The answer of `longact power`, for a person or a script."""

from rich.table import Table
from rich.text import Text

from longact_cli.console.output import Output
from longact_cli.reporting.planning import Design, PowerPlan, Question, SeedDesign


def show_power(output: Output, question: Question, plan: PowerPlan) -> None:
    """Print the designs over questions, over seeds, and the notes."""
    output.data(
        {
            "event": "power",
            **question._asdict(),
            "aim": question.aim._asdict(),
            "designs": [design._asdict() for design in plan.designs],
            "seeds": None if plan.seeds is None else plan.seeds._asdict(),
            "notes": list(plan.notes),
        }
    )
    output.show(_questions(question, plan.designs))
    if plan.seeds is not None:
        output.show(_seeds(question, plan.seeds))
    for note in plan.notes:
        output.show(Text(note, style="dim"))


def _questions(question: Question, designs: tuple[Design, ...]) -> Table:
    p, delta = 100 * question.p, 100 * question.delta
    table = Table(
        title=Text(
            f"{p:.2f} % against {p + delta:.2f} % ({delta:+.2f} points), "
            f"level {question.aim.alpha:g}, {question.n} questions"
        ),
        title_justify="left",
    )
    power = f"{question.aim.power:.0%}"
    for name in ("questions", "rho", "discordant", "power", f"n for {power}", f"found at {power}"):
        table.add_column(name, justify="left" if name == "questions" else "right")
    for design in designs:
        table.add_row(
            design.name,
            "" if design.rho is None else f"{design.rho:g}",
            "" if design.discordance is None else f"{design.discordance:.1%}",
            f"{design.power:.2f}",
            _count(design.needed),
            "none" if design.detectable is None else f"{100 * design.detectable:.1f} points",
        )
    return table


def _seeds(question: Question, design: SeedDesign) -> Table:
    table = Table(title=Text("Methods: t test over seeds"), title_justify="left")
    power = f"{question.aim.power:.0%}"
    columns = ("seeds per arm", "SD over seeds", "power", f"seeds for {power}", "smallest p")
    for name in columns:
        table.add_column(name, justify="right")
    table.add_row(
        str(design.seeds),
        f"{100 * design.seed_sd:.2f} points",
        f"{design.power:.2f}",
        _count(design.needed),
        f"{design.permutation_floor:.3g} (paired by seed {design.paired_floor:.3g})",
    )
    return table


def _count(number: int | None) -> str:
    return "none" if number is None else f"{number:,}"

import io

import numpy as np
import pytest
from rich.console import Console

from longact_cli.cells import mark_done
from longact_cli.files import append_lines
from longact_cli.plan import Plan
from longact_cli.reporting.arms import counterpart
from longact_cli.reporting.curves import reward_curves, smooth
from longact_cli.reporting.frame import SAMPLE_COLUMNS, load_study
from longact_cli.reporting.grouping import collect_arms
from longact_cli.reporting.render.terminal import to_terminal
from longact_cli.reporting.statistics import Estimate
from longact_cli.reporting.table import Column, Entry, Provenance
from longact_cli.reporting.tables import TABLES
from longact_cli.results import MetricPoint
from longact_cli.tracking.store import open_store
from synthetic_store import Setting, pair, write_cell, write_study

NOWHERE = Provenance("longact report", "0", "pilot", (), ())
PERCENT, POINTS = Column("s", "S", "percent"), Column("d", "D", "points")


def _table(uri, name="sparsity", study="pilot"):
    return TABLES.get(name)(load_study(uri, study), NOWHERE)


def _rows(table):
    keys = [column.key for column in table.columns]
    return [dict(zip(keys, row, strict=True)) for s in table.sections for row in s.rows]


@pytest.mark.parametrize(
    ("entry", "column", "shown"),
    [
        (Entry(0.36734), PERCENT, "36.7"),
        (Entry(0.0393, -0.019, 0.0996), POINTS, "+3.9"),
        (Entry(-0.0001), POINTS, "0.0"),
        (Entry(-0.05), POINTS, "-5.0"),
        (Entry(), PERCENT, "--"),
        (Entry("ref."), POINTS, "ref."),
        (Entry.of(Estimate(float("nan"), 0, 0, 0, 0, 0)), PERCENT, "--"),
    ],
)
def test_entries_are_shown_in_percent_and_signed_points(entry, column, shown):
    assert entry.number(column) == shown


def test_intervals_are_shown_unless_the_column_is_compact():
    entry = Entry(0.0393, -0.019, 0.0996)
    assert entry.interval(POINTS) == "[-1.9, +10.0]"
    assert entry.interval(POINTS._replace(compact=True)) == ""


def test_scores_and_differences_are_those_of_the_answers(tracked_runs):
    runs_dir, uri = tracked_runs
    settings = [Setting(*s) for s in (("dense", 1.0, 0, 0.5), ("salient", 0.3, 0, 0.8),
                                      ("random", 0.3, 0, 0.5))]  # fmt: skip
    write_study(runs_dir, uri, "pilot", settings)
    study = load_study(uri, "pilot")
    means = study.samples.groupby(["arm", "task", "context_length"])["score"].mean()
    by_arm = means.groupby("arm").mean()
    rows = {row["arm"].value: row for row in _rows(_table(uri))}
    assert list(rows) == ["base", "dense", "salient", "random"]
    for arm, row in rows.items():
        assert row["score"].value == pytest.approx(by_arm[arm])
    salient = rows["salient"]
    for other in ("base", "dense", "random"):
        difference = salient[f"difference_to_{other}"].value
        assert difference == pytest.approx(by_arm["salient"] - by_arm[other])
    assert salient["score_niah_single_1_512"].value == pytest.approx(
        means["salient", "niah_single_1", 512]
    )
    assert salient["score"].bold
    assert not rows["dense"]["score"].bold
    assert rows["dense"]["difference_to_dense"].value == "ref."
    assert rows["dense"]["difference_to_random"].value == "n/a"


def test_nothing_is_bold_where_no_difference_excludes_zero(tracked_runs):
    runs_dir, uri = tracked_runs
    settings = [Setting("dense", 1.0, 0, 0.5), Setting("salient", 0.3, 0, 0.52)]
    write_study(runs_dir, uri, "pilot", settings)
    table = _table(uri)
    assert not any(row["score"].bold for row in _rows(table))
    best = max(_rows(table), key=lambda row: row["score"].value)
    assert best["score"].mark == "†"
    assert any("not shown to be better" in note for note in table.notes)


def test_without_dense_training_the_base_is_the_baseline(tracked_runs):
    runs_dir, uri = tracked_runs
    write_study(runs_dir, uri, "pilot", [Setting("salient", 0.3, 0, 0.9)])
    table = _table(uri)
    assert _rows(table)[1]["score"].bold
    assert any("without it the untrained model" in note for note in table.notes)
    assert _rows(table)[1]["difference_to_dense"].value is None


@pytest.mark.slow
def test_notes_say_what_intervals_are_over_and_what_micro_shows(tracked_runs):
    runs_dir, uri = tracked_runs
    write_study(runs_dir, uri, "one", [Setting("dense", 1.0, 0, 0.5)])
    write_study(runs_dir, uri, "two", [Setting("dense", 1.0, s, 0.5) for s in (0, 1)])
    settings = [Setting("dense", 1.0, s, 0.5) for s in (0, 1, 2)]
    write_study(runs_dir, uri, "three", settings)
    one, two, three = (" ".join(_table(uri, study=name).notes) for name in ("one", "two", "three"))
    assert "over questions only (one training seed)" in one
    assert "fewer than 3 seeds" in two
    assert "resampling seeds and questions" in three
    assert "fewer than" not in three
    assert all("fraction of query/key rows that are updated" in text for text in (one, two, three))
    assert "pipeline works" in one


def test_a_larger_model_gets_no_micro_note(tracked_runs):
    runs_dir, uri = tracked_runs
    settings = [Setting("dense", 1.0, 0, 0.5, "qwen3-4b")]
    write_study(runs_dir, uri, "pilot", settings, model="qwen3-4b")
    assert "pipeline works" not in " ".join(_table(uri).notes)


def test_missing_cells_are_counted_marked_and_listed(hostile_study):
    uri, study = hostile_study
    table = _table(uri, study=study)
    rows = _rows(table)
    never = rows[-1]
    assert (never["arm"].value, never["sparsity"].value) == ("salient", "0.5")
    assert never["score"].value is None
    assert never["seeds"].mark == "*"
    text = "\n".join(table.missing)
    assert "failed, out of memory: <3 GiB> & 50%_ second | line" in text
    assert "blocked, its training did not finish" in text
    assert text.count("pending, never started") == 2
    assert table.missing[-1] == "to fill: longact ablate --retry-failed"
    assert len(table.missing) == 5


def test_settings_that_differ_make_separate_arms_with_their_own_baselines(tracked_runs):
    runs_dir, uri = tracked_runs
    store = open_store(uri, runs_dir=runs_dir, study="pilot")
    run = store.start_plan(Plan("pilot", ()), "longact ablate")
    algorithm = pair(Setting("dense", 1.0, 0, 0.5))[0].config.algorithm
    for strategy, sparsity in (("dense", 1.0), ("salient", 0.3)):
        for rate in (1e-4, 3e-4):
            update = {"algorithm": algorithm.model_copy(update={"learning_rate": rate})}
            for cell in pair(Setting(strategy, sparsity, 0, 0.5), **update):
                store.sync_cell(cell, write_cell(runs_dir, cell, 0.5), parent_run=run)
    arms = collect_arms(load_study(uri, "pilot"))
    assert [arm.name for arm in arms] == [
        f"{strategy} (algorithm.learning_rate={rate})"
        for strategy in ("dense", "salient")
        for rate in ("0.0001", "0.0003")
    ]
    assert counterpart(arms[3], arms, "dense") is arms[1]
    assert counterpart(arms[3], arms, "random") is None


def test_batch_size_and_workers_do_not_split_an_arm(tracked_runs):
    runs_dir, uri = tracked_runs
    store = open_store(uri, runs_dir=runs_dir, study="pilot")
    run = store.start_plan(Plan("pilot", ()), "longact ablate")
    made = pair(Setting("dense", 1.0, 0, 0.5))[0].config
    for seed, workers in ((0, 1), (1, 2)):
        update = {
            "executor": made.executor.model_copy(update={"workers": workers}),
            "benchmark": made.benchmark.model_copy(update={"batch_size": 8 * workers}),
        }
        for cell in pair(Setting("dense", 1.0, seed, 0.5), **update):
            store.sync_cell(cell, write_cell(runs_dir, cell, 0.5), parent_run=run)
    (arm,) = collect_arms(load_study(uri, "pilot"))
    assert (arm.name, arm.seeds, arm.scores.shape) == ("dense", (0, 1), (2, 40))


def test_frames_are_tidy(hostile_study):
    uri, name = hostile_study
    study = load_study(uri, name)
    assert tuple(study.samples.columns) == SAMPLE_COLUMNS
    assert len(study.samples) == 6 * 40
    assert len(study.scores) == 6 * 4
    assert study.samples["failed"].sum() == 1
    assert study.samples.loc[study.samples["failed"], "score"].isna().all()


def test_smoothing_averages_the_last_five_values():
    assert smooth([1, 2, 3, 4, 5, 6]) == pytest.approx([1, 1.5, 2, 2.5, 3, 4])


def test_reward_curves_average_seeds_and_span_them(tracked_runs):
    runs_dir, uri = tracked_runs
    settings = [Setting("dense", 1.0, s, p) for s, p in ((0, 0.2), (1, 0.6))]
    write_study(runs_dir, uri, "pilot", settings)
    study = load_study(uri, "pilot")
    (curve,) = reward_curves(uri, study.cells, collect_arms(study))
    assert (curve.label, curve.n_seeds) == ("dense", 2)
    assert curve.steps == pytest.approx(np.arange(1, 13))
    assert curve.mean == pytest.approx((curve.low + curve.high) / 2)
    assert curve.mean[-1] == pytest.approx(0.4 * 10 / 12, abs=0.03)


def test_the_terminal_shows_every_row_and_no_markup_of_the_data(hostile_study):
    uri, study = hostile_study
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(to_terminal(_table(uri, study=study)))
    text = console.export_text()
    assert "<b>x</b>" in text
    assert text.count("salient") >= 2
    assert "Missing:" in text


def test_no_number_is_torn_on_a_terminal_of_80_columns(tracked_runs):
    runs_dir, uri = tracked_runs
    settings = [Setting("dense", 1.0, 0, 0.4), Setting("salient", 0.3, 0, 1.0)]
    write_study(runs_dir, uri, "pilot", settings)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(to_terminal(_table(uri)))
    text = console.export_text()
    assert "100.0" in text
    assert "…" not in text


def test_the_main_table_keeps_rows_that_nothing_has_run_for(tracked_runs):
    runs_dir, uri = tracked_runs
    write_study(runs_dir, uri, "pilot", [Setting("salient", 0.3, 0, 0.5)])
    table = _table(uri, "main")
    rows = {row["method"].value: row for row in _rows(table)}
    assert list(rows) == ["base", "sft", "dapo dense", "dapo + LongAct"]
    assert all(row["overall"].value is None for row in rows.values())
    assert (
        "micro dapo dense: not planned; to fill: longact ablate --algo dapo --mask dense "
        "--sparsity 1 --model micro --bench longbench-v2 --study pilot" in table.missing
    )


def test_published_values_stand_beside_ours_with_their_source(paper_store):
    table = _table(paper_store, "main", "paper")
    column = next(column for column in table.columns if column.key == "paper")
    shown = {
        (section.title, row[0].value, row[1].value): row[3].number(column)
        for section in table.sections
        for row in section.rows
        if row[3].value is not None
    }
    assert shown == {
        ("qwen3-8b", "sft", "1"): "32.80",
        ("qwen3-8b", "dapo + LongAct", "0.3"): "36.73",
        ("qwen3-8b", "grpo + LongAct", "0.3"): "36.73",
    }
    assert any(note.startswith("Paper: published values, not ours") for note in table.notes)


def test_longbench_weighs_questions_and_ruler_weighs_tasks(paper_store):
    study = load_study(paper_store, "paper")
    part = study.samples[(study.samples["arm"] == "base") & (study.samples["model"] == "qwen3-4b")]
    main = _rows(_table(paper_store, "main", "paper"))[0]
    asked = part[part["benchmark"] == "longbench-v2"]
    assert main["overall"].value == pytest.approx(asked["score"].mean())
    assert main["easy"].value == pytest.approx(
        asked.loc[asked["difficulty"] == "easy", "score"].mean()
    )
    ruler = [row for row in _rows(_table(paper_store, "ruler", "paper"))
             if row["task"].value == "all tasks" and row["arm"].value == "base"]  # fmt: skip
    asked = part[part["benchmark"] == "ruler"]
    means = (
        asked.groupby(["task", "context_length"])["score"].mean().groupby("context_length").mean()
    )
    assert ruler[0]["average"].value == pytest.approx(means.mean())
    assert ruler[0]["increasing"].value == pytest.approx((means[4096] + 2 * means[8192]) / 3)
    assert ruler[0]["decreasing"].value == pytest.approx((2 * means[4096] + means[8192]) / 3)


def test_every_number_leads_to_the_cells_it_was_computed_from(paper_store):
    study = load_study(paper_store, "paper")
    known = {cell.digest[:12]: cell for cell in study.cells}
    for row in _rows(_table(paper_store, "controls", "paper")):
        if row["difference"].value is not None:
            arms = {known[name].arm for name in row["difference"].cells}
            assert arms == {"salient", row["control"].value}
            assert row["difference"].seeds == 3


def test_controls_that_were_not_run_keep_their_row_and_say_how_to_run(tracked_runs):
    runs_dir, uri = tracked_runs
    write_study(runs_dir, uri, "pilot", [Setting("salient", 0.3, 0, 0.5),
                                         Setting("random", 0.3, 0, 0.5)])  # fmt: skip
    table = _table(uri, "controls")
    assert [row["control"].value for row in _rows(table)] == ["random", "lowest", "dense", "frozen"]
    assert sum("not planned" in line for line in table.missing) == 3
    assert any("--mask lowest --sparsity 0.3" in line for line in table.missing)


def test_where_activations_are_read_does_not_split_masks_that_read_none(tracked_runs):
    runs_dir, uri = tracked_runs
    store = open_store(uri, runs_dir=runs_dir, study="pilot")
    run = store.start_plan(Plan("pilot", ()), "longact ablate")
    for strategy in ("salient", "gradient", "weight", "wanda"):
        for site in ("norm", "proj"):
            mask = pair(Setting(strategy, 0.3, 0, 0.5))[0].config.mask
            update = {"mask": mask.model_copy(update={"site": site})}
            seed = 0 if site == "norm" else 1
            for cell in pair(Setting(strategy, 0.3, seed, 0.5), **update):
                store.sync_cell(cell, write_cell(runs_dir, cell, 0.5), parent_run=run)
    arms = collect_arms(load_study(uri, "pilot"))
    assert sorted((arm.name, len(arm.seeds)) for arm in arms) == [
        ("gradient", 2),
        ("salient (mask.site=norm)", 1),
        ("salient (mask.site=proj)", 1),
        ("wanda", 2),
        ("weight", 2),
    ]


def test_a_mask_chosen_by_mass_shows_the_ratio_it_achieved(tracked_runs):
    runs_dir, uri = tracked_runs
    store = open_store(uri, runs_dir=runs_dir, study="pilot")
    run = store.start_plan(Plan("pilot", ()), "longact ablate")
    mask = pair(Setting("salient", 1.0, 0, 0.5))[0].config.mask
    update = {"mask": mask.model_copy(update={"mass": 0.9, "sparsity": 0.8})}
    for cell in pair(Setting("salient", 0.8, 0, 0.5), **update):
        points = [MetricPoint(step, "mask/update_ratio", 0.2 + 0.1 * step) for step in (1, 2)]
        directory = write_cell(runs_dir, cell, 0.5)
        if cell.stage == "train":
            append_lines(directory.metrics, [point._asdict() for point in points])
            mark_done(directory)
        store.sync_cell(cell, directory, parent_run=run)
    (arm,) = collect_arms(load_study(uri, "pilot"))
    assert arm.achieved == pytest.approx(0.35)
    assert _rows(_table(uri))[0]["sparsity"].value == "0.35 achieved"


def test_the_bulk_store_holds_what_the_tracking_writer_writes(hostile_study, paper_store):
    real, made = load_study(*hostile_study), load_study(paper_store, "paper")
    assert list(real.samples.columns) == list(made.samples.columns)
    ours = next(cell for cell in made.scored if cell.parent)
    theirs = next(cell for cell in real.scored if cell.parent)
    assert ours.params.keys() == theirs.params.keys()
    assert len(made.cells) > 300


def test_no_evaluation_of_a_checkpoint_is_dropped_without_a_word(tracked_runs):
    runs_dir, uri = tracked_runs
    store = open_store(uri, runs_dir=runs_dir, study="pilot")
    run = store.start_plan(Plan("pilot", ()), "longact eval")
    benchmark = pair(Setting("dense", 1.0, 0, 0.5))[1].config.benchmark
    for change in ({"limit": 10}, {"limit": 20}, {"limit": 20, "protocol": "lm-eval"}):
        update = {"benchmark": benchmark.model_copy(update=change)}
        _, evaluation = pair(Setting("dense", 1.0, 0, 0.5), **update)
        store.sync_cell(evaluation, write_cell(runs_dir, evaluation, 0.5), parent_run=run)
    rows = [row for row in _rows(_table(uri, "protocols")) if row["task"].value == "all tasks"]
    assert [row["arm"].value for row in rows] == [
        "dense (benchmark.limit=10)",
        "dense (benchmark.limit=20)",
    ]
    assert [(row["n_official"].value, row["n_lm-eval"].value) for row in rows] == [
        (40, 0),
        (40, 40),
    ]
    (note,) = [note for note in _table(uri, "algorithms").notes if "left out" in note]
    assert note.count("with 40 questions") == 2

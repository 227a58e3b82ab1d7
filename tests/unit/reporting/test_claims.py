import json
import shlex

import numpy as np
import pytest
from typer.testing import CliRunner

from longact_cli.cli.app import app
from longact_cli.plan import Plan
from longact_cli.reporting.arms import Arm, Question, Section
from longact_cli.reporting.claims import declared_claims, judge_claims
from longact_cli.reporting.claims.commands import _without_keys
from longact_cli.reporting.claims.verdict import detectable_difference, judge
from longact_cli.reporting.comparisons import compare, compare_family, improvement, task_iqm
from longact_cli.reporting.frame import load_study
from longact_cli.reporting.reference import paper, published_value
from longact_cli.reporting.table import Provenance
from longact_cli.reporting.tables import TABLES
from longact_cli.tracking.store import open_store
from synthetic_store import Setting, pair, write_cell, write_study

CLAIMS = {claim.id: claim for claim in declared_claims().claims}
N = 400


def _arm(strategy, sparsity, share, *, seeds=3, model="qwen3-8b", algorithm="dapo", noise=0):
    """An arm that answers `share` of the questions, each seed nearly the same ones."""
    rows = np.tile(np.arange(N) < share * N, (seeds, 1)).astype(float)
    generator = np.random.default_rng(noise)
    flips = generator.random(rows.shape) < 0.02
    questions = tuple(Question("short", 8192, f"{i:04d}") for i in range(N))
    return Arm(Section(model, algorithm, "longbench-v2"), strategy, sparsity, {}, (),
               tuple(range(seeds)), questions, np.abs(rows - flips), 0)  # fmt: skip


def _verdicts(*arms):
    return {f.claim.id: f.verdict for f in judge_claims(arms, "pilot") if f.case.left}


def test_every_claim_has_a_source_a_family_and_a_command_of_ours():
    for claim in CLAIMS.values():
        assert claim.source
        assert claim.command.startswith("longact ")
        if claim.command.startswith("longact ablate"):
            words = shlex.split(claim.command)
            assert words[words.index("--seeds") + 1] == "3"
    assert len(CLAIMS) >= 25


def test_published_values_are_those_of_the_sources_and_others_stay_empty():
    percents = {value.id: value.percent for value in paper().values}
    assert percents == {"longbench-v2-8b-sft": "32.80", "longbench-v2-8b-longact": "36.73"}
    assert all("arXiv 2604.14922" in value.source for value in paper().values)
    found = published_value(
        model="qwen3-8b", benchmark="longbench-v2", row="salient", column="overall"
    )
    assert found.score == pytest.approx(0.3673)
    assert (
        published_value(model="qwen3-8b", benchmark="ruler", row="salient", column="overall")
        is None
    )


def test_a_clear_gain_over_three_seeds_supports_the_claim():
    arms = _arm("salient", 0.3, 0.6), _arm("dense", 1.0, 0.4, noise=1)
    verdicts = _verdicts(*arms)
    assert verdicts["P2"] == ("supported", "above 0")
    assert verdicts["R3"].word == "supported"


def test_the_same_gain_of_one_seed_is_about_one_checkpoint():
    arms = _arm("salient", 0.3, 0.6, seeds=1), _arm("dense", 1.0, 0.4, seeds=1, noise=1)
    assert _verdicts(*arms)["P2"] == ("inconclusive", "above 0; 1 of 3 seeds")


def test_a_clear_loss_does_not_support_the_claim():
    arms = _arm("salient", 0.3, 0.4), _arm("dense", 1.0, 0.6, noise=1)
    assert _verdicts(*arms)["P2"] == ("not supported", "below 0")


def test_equal_arms_rule_a_gain_out_only_with_enough_questions():
    alike = [_arm("salient", 0.3, 0.5), _arm("random", 0.3, 0.5, noise=1)]
    comparison = compare(*alike)
    claim = CLAIMS["R1"]
    assert comparison.high > claim.margin
    assert judge(claim, comparison, 0.9).word == "inconclusive"
    sharper = comparison._replace(high=0.009)
    assert judge(claim, sharper, 0.9) == ("not supported", "gain of 1.0 points ruled out")


def test_no_significant_difference_is_not_equality():
    claim = CLAIMS["R4"]
    wide = compare(_arm("random", 0.3, 0.5, seeds=1), _arm("dense", 1.0, 0.51, seeds=1, noise=1))
    assert wide.p > 0.05
    assert judge(claim, wide, 0.3).word == "inconclusive"
    arms = [_arm("random", 0.3, 0.5, seeds=5), _arm("dense", 1.0, 0.5, seeds=5, noise=1)]
    assert _verdicts(*arms).get("R4") == ("supported", "within 2.0 points")


def test_p_values_are_corrected_over_the_family():
    arms = [_arm("salient", 0.3, 0.55), _arm("random", 0.3, 0.5, noise=1),
            _arm("lowest", 0.3, 0.52, noise=2), _arm("dense", 1.0, 0.5, noise=3)]  # fmt: skip
    found = {f.claim.id: f for f in judge_claims(arms, "pilot") if f.p == f.p}
    referees = [f for name, f in found.items() if name.startswith("R")]
    assert len(referees) == 4
    smallest = min(referees, key=lambda f: f.p)
    assert smallest.p_holm == pytest.approx(min(1.0, 4 * smallest.p))


def test_sft_is_no_rl_but_can_be_what_rl_is_compared_with():
    arms = [_arm("salient", 0.3, 0.6), _arm("dense", 1.0, 0.4, noise=1, algorithm="sft"),
            _arm("salient", 0.3, 0.6, noise=2, algorithm="sft")]  # fmt: skip
    verdicts = _verdicts(*arms)
    assert verdicts["P1"].word == "supported"
    assert verdicts["R7"].word == "supported"
    assert sum(f.claim.id == "R3" for f in judge_claims(arms, "pilot")) == 1


def test_claims_on_published_numbers_need_no_runs():
    found = {f.claim.id: f for f in judge_claims((), "pilot")}
    assert found["P14"].verdict == ("not supported", "between 184/503 and 185/503")
    assert found["P15"].verdict.word == "supported"
    assert found["P16"].verdict.word == "not supported"
    assert "12.0 % relative; 8 % relative needs a baseline of 34.0" in found["P16"].remark
    others = [f for name, f in found.items() if name not in ("P14", "P15", "P16")]
    assert {f.verdict.word for f in others} == {"not run"}
    assert all(f.command for f in others)


def test_the_smallest_difference_found_has_that_power_at_the_observed_error():
    comparison = compare(_arm("salient", 0.3, 0.6, seeds=1), _arm("dense", 1.0, 0.5, seeds=1))
    error = comparison.effect.standard_error
    assert detectable_difference(comparison) == pytest.approx((1.966 + 0.842) * error, rel=1e-3)


def test_a_family_of_one_keeps_its_p_value_and_gaps_stay_gaps():
    arms = _arm("salient", 0.3, 0.6), _arm("dense", 1.0, 0.58, noise=1)
    one, gap = compare_family([arms, None])
    assert one.p_holm == one.p
    assert gap is None


def test_arms_are_aggregated_over_tasks():
    arms = _arm("salient", 0.3, 0.6), _arm("dense", 1.0, 0.4, noise=1)
    assert improvement(*arms).value == 1.0
    assert improvement(*arms[::-1]).value == 0.0
    assert task_iqm(arms[0]).value == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize(
    ("command", "left"),
    [
        ("longact ablate --seeds 3 --mask salient", "longact ablate --mask salient"),
        ("longact ablate seed=0,1 --seeds=4 --study x", "longact ablate --study x"),
    ],
)
def test_settings_are_taken_out_of_a_command_in_every_spelling(command, left):
    assert shlex.join(_without_keys(shlex.split(command), ("seed",))) == left


def _claims(uri, study="pilot"):
    return TABLES.get("claims")(
        load_study(uri, study), Provenance("longact report", "0", "", (), ())
    )


def test_the_table_of_a_small_study_says_what_is_open_and_how_to_settle_it(tracked_runs):
    runs_dir, uri = tracked_runs
    settings = [Setting("dense", 1.0, 0, 0.5), Setting("salient", 0.3, 0, 0.9),
                Setting("random", 0.3, 0, 0.5)]  # fmt: skip
    write_study(runs_dir, uri, "pilot", settings)
    table = _claims(uri)
    keys = [column.key for column in table.columns]
    rows = {}
    for section in table.sections:
        for row in section.rows:
            named = dict(zip(keys, row, strict=True))
            rows[named["id"].value] = named
    assert rows["P2"]["verdict"].value == "not run"
    assert rows["R1"]["where"].value == "micro, dapo, ruler"
    assert rows["R1"]["verdict"].value == "inconclusive"
    assert rows["R1"]["reason"].value == "above 0; 1 of 3 seeds"
    assert rows["R1"]["difference"].cells
    assert rows["R9"]["verdict"].value == "not supported"
    assert any(line.startswith("P11") is False and "seed=0,1,2" in line for line in table.missing)
    assert any(
        line.startswith("R2; to settle: longact ablate") and "mask=lowest" in line
        for line in table.missing
    )
    assert any("no evidence for or against" in note for note in table.notes)


def test_the_commands_of_a_store_elsewhere_name_it(tracked_runs):
    runs_dir, uri = tracked_runs
    store = open_store(uri, runs_dir=runs_dir, study="pilot")
    cells = pair(Setting("salient", 0.3, 0, 0.5))
    plan = Plan("pilot", cells)
    run = store.start_plan(plan, "longact ablate --study pilot --runs-dir 'my runs' --seeds 1")
    for cell in cells:
        store.sync_cell(cell, write_cell(runs_dir, cell, 0.5), parent_run=run)
    lines = _claims(uri).missing
    assert lines
    ablate = [line for line in lines if "longact ablate" in line]
    assert all("--runs-dir 'my runs'" in line for line in ablate)
    assert all("--study pilot" in line for line in ablate)


@pytest.mark.slow
def test_the_command_line_prints_and_writes_the_checklist(tracked_runs, tmp_path):
    runs_dir, uri = tracked_runs
    write_study(runs_dir, uri, "pilot", [Setting("salient", 0.3, 0, 0.9)])
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app,
        ["report", "--claims", "--runs-dir", str(runs_dir), "--out", str(out), "--json",
         "--format", "md,tex,csv,json,html"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    claims = [line for line in lines if line["event"] == "claim"]
    assert {line["id"] for line in claims} == set(CLAIMS)
    assert {"supported", "not supported", "not run"} <= {line["verdict"] for line in claims}
    assert all(line["command"].startswith("longact ") for line in lines if line["event"] == "next")
    names = {path.name for path in out.iterdir()}
    assert {"claims.md", "claims.tex", "claims.csv", "claims.json", "report.html"} <= names
    assert "36.73 % of 503 questions" in (out / "report.html").read_text("utf-8")

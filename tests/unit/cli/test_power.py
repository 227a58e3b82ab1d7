import json

import pytest
from typer.testing import CliRunner

from longact_cli.cli.app import app

WRONG = {
    "--n abc": "--n is 'abc'; it must be a whole number from 2 to 10,000,000",
    "--p 32.8": "--p is '32.8'; it must be a number above 0 and below 1; for 32.8 % write 0.328",
    "--delta 0": "--delta is '0'; it must be a number from -1 to 1, not 0",
    "--delta 0.7": "the other side would score 1.028",
    "--rho 0.99": "can only be correlated from -0.532 to 0.917",
    "--discordance 0.01": "needs at least 0.0393 of the questions to differ",
    "--rho 0.5 --discordance 0.2": "are both given; give one of them",
    "--check 36,73": "it must be a percentage from 0 to 100",
    "--seeds 1": "--seeds is '1'; it must be a whole number from 2 to 1,000",
    "--alpha nan": "--alpha is 'nan'; it must be a number above 0 and below 1",
}


def longact(*arguments):
    return CliRunner().invoke(app, ["power", *arguments])


def test_power_is_shown_for_pairs_seeds_and_the_published_percentage():
    done = longact("--n", "503", "--seeds", "3", "--check", "36.73", "--no-color")
    assert done.exit_code == 0
    assert "2,304" in done.stdout  # unpaired, arcsine effect size of 0.328 against 0.3673
    assert "cannot give p below 0.1" in done.stdout
    assert "36.73 % is no share of 503 questions" in done.stdout


def test_json_holds_the_numbers_of_the_table():
    done = longact("--rho", "0.7", "--json")
    (line,) = done.stdout.splitlines()
    data = json.loads(line)
    unpaired, paired = data["designs"]
    assert unpaired["needed"] == 2304
    assert paired["needed"] == 697
    assert paired["power"] == pytest.approx(0.6625, abs=1e-3)
    assert data["seeds"] is None


def test_a_worse_score_is_planned_like_a_better_one():
    better = json.loads(longact("--p", "0.3", "--delta", "0.1", "--rho", "0.5", "--json").stdout)
    worse = json.loads(longact("--p", "0.4", "--delta", "-0.1", "--rho", "0.5", "--json").stdout)
    for a, b in zip(better["designs"], worse["designs"], strict=True):
        assert a["needed"] == b["needed"]
        assert a["power"] == pytest.approx(b["power"])


@pytest.mark.parametrize(("arguments", "message"), WRONG.items(), ids=WRONG.keys())
def test_bad_input_is_one_line(arguments, message):
    done = longact(*arguments.split())
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1

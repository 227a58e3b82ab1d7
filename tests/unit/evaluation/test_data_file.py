import pytest

from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.evaluation.data_file import DataSource, find_data_file


def source(data_dir: str | None) -> DataSource:
    return DataSource("infinitebench", "someone/Data", data_dir)


def test_a_folder_named_like_the_benchmark_wins_over_its_parent(tmp_path):
    (tmp_path / "x.jsonl").touch()
    assert find_data_file("x.jsonl", source(str(tmp_path))) == tmp_path / "x.jsonl"
    (tmp_path / "infinitebench").mkdir()
    (tmp_path / "infinitebench" / "x.jsonl").touch()
    found = find_data_file("x.jsonl", source(str(tmp_path)))
    assert found == tmp_path / "infinitebench" / "x.jsonl"


def test_a_missing_local_file_says_where_to_get_it(tmp_path):
    with pytest.raises(ConfigError, match=r"x\.jsonl is missing.*datasets/someone/Data"):
        find_data_file("x.jsonl", source(str(tmp_path)))


def test_without_network_the_hub_is_one_line_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(PrerequisiteError, match=r"x\.jsonl of someone/Data .*--data-dir") as error:
        find_data_file("x.jsonl", source(None))
    assert "\n" not in str(error.value)

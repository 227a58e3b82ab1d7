"""An OpenAI-compatible server over real HTTP."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from longact_cli.config.schema import BenchmarkConfig, ModelConfig
from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.evaluation.evaluate import evaluate


class Handler(BaseHTTPRequestHandler):
    """Finds the needle in the prompt, and does not for prompts it is told to fail on."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, asked))
        prompt = asked["prompt"]
        prompt = prompt[0] if isinstance(prompt, list) else prompt
        key = re.search(r" for (\S+) mentioned in the provided text is$", prompt)[1]
        value = re.search(rf" for {re.escape(key)} is: (\d+)\.", prompt)[1]
        if self.server.fails(value):
            self.send_error(500, "broken")
            return
        text = None if self.server.silent(value) else f" {value}."
        body = json.dumps({"choices": [{"index": 0, "text": text}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.fails, server.silent = [], lambda _: False, lambda _: False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def run(checkpoint, path, server, **changes):
    address = f"http://127.0.0.1:{server.server_port}/v1" if server else None
    values = {"tasks": ("niah_single_1",), "context_lengths": (320,), "limit": 4}
    asked = BenchmarkConfig(
        name="ruler", backend="openai", **{"base_url": address, **values, **changes}
    )
    return evaluate(
        str(checkpoint),
        model=ModelConfig(name="served", path=str(checkpoint)),
        benchmark=asked,
        samples_path=path,
    )


def test_a_server_answers_the_final_prompts(tiny_checkpoint, tmp_path, server):
    results = run(tiny_checkpoint, tmp_path / "samples.jsonl", server)
    assert (results[0].score, results[0].n_scored, results[0].n_failed) == (1.0, 4, 0)
    path, asked = server.seen[0]
    assert path == "/v1/completions"
    assert asked["model"] == str(tiny_checkpoint)
    assert (asked["max_tokens"], asked["temperature"]) == (128, 0)
    assert len(server.seen) == 4


@pytest.mark.slow
def test_what_the_server_cannot_answer_is_failed_and_not_zero(tiny_checkpoint, tmp_path, server):
    path = tmp_path / "samples.jsonl"
    run(tiny_checkpoint, path, server)
    values = [json.loads(line)["references"][0] for line in path.read_text("utf-8").splitlines()]
    server.fails, server.silent = (lambda v: v == values[0]), (lambda v: v == values[1])
    again = tmp_path / "again.jsonl"
    results = run(tiny_checkpoint, again, server)
    assert (results[0].score, results[0].n_scored, results[0].n_failed) == (1.0, 2, 2)
    errors = [json.loads(line)["error"] for line in again.read_text("utf-8").splitlines()]
    assert "500" in errors[0]
    assert errors[1:] == ["RuntimeError: the server sent no text", None, None]
    server.fails = server.silent = lambda _: False
    before = len(server.seen)
    assert run(tiny_checkpoint, again, server)[0].n_scored == 4
    assert len(server.seen) == before + 2


def test_a_missing_server_stops_the_run(tiny_checkpoint, tmp_path):
    with pytest.raises(PrerequisiteError, match=r"no server answers there.*--base-url"):
        run(tiny_checkpoint, tmp_path / "s.jsonl", None, base_url="http://127.0.0.1:9", limit=1)


def test_the_server_backend_needs_an_address(tiny_checkpoint, tmp_path):
    with pytest.raises(ConfigError, match=r"benchmark\.base_url is null"):
        run(tiny_checkpoint, tmp_path / "s.jsonl", None)

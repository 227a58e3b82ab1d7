"""Our samples as an lm-eval task: prompts and answer budgets are final."""

from collections.abc import Callable, Sequence

from lm_eval.api.instance import Instance  # noqa: TID253 - subclassing needs lm-eval at import
from lm_eval.api.task import Task, TaskConfig  # noqa: TID253
from lm_eval.filters import build_filter_ensemble  # noqa: TID253

from longact_cli.evaluation.benchmark import Sample

GENERATION = "until end-of-sequence or tokens_to_generate; greedy where temperature is 0"


class SampleTask(Task):  # type: ignore[misc]  # lm-eval has no types
    """One task at one context length.

    lm-eval's own pipeline for building prompts is skipped: `Sample.prompt` already holds the chat
    template and the answer prefix, and its length has been measured. Requests carry no text; the
    prompt is read when its batch is due, so that long prompts do not pile up in memory.
    """

    VERSION = 1
    OUTPUT_TYPE = "generate_until"

    def __init__(self, name: str, samples: Sequence[Sample]) -> None:
        """Name the task for lm-eval's result table.

        lm-eval's own constructor is not called: it downloads a data set and warns about defaults
        that are never used here.
        """
        self._samples = tuple(samples)
        self._config = TaskConfig(task=name, generation_kwargs={"until": []})
        self._filters = [build_filter_ensemble("none", [["take_first", None]])]
        self._instances: list[Instance] = []

    def has_training_docs(self) -> bool:
        """Return False: there are no few-shot examples beyond those in the prompts."""
        return False

    def has_validation_docs(self) -> bool:
        """Return False."""
        return False

    def has_test_docs(self) -> bool:
        """Return True."""
        return True

    def test_docs(self) -> tuple[Sample, ...]:
        """Return the samples."""
        return self._samples

    def doc_to_text(self, doc: Sample) -> str:
        """Return the whole prompt."""
        return doc.prompt

    def doc_to_target(self, doc: Sample) -> str:
        """Return the references, for lm-eval's logs."""
        return ", ".join(doc.references)

    def build_all_requests(self, **_: object) -> None:
        """Make one request per sample."""
        self._instances = [
            self.construct_requests(sample, "", metadata=(self.task_name, number, 1))
            for number, sample in enumerate(self._samples)
        ]

    def construct_requests(
        self, doc: Sample, ctx: str, *, metadata: tuple[str, int, int]
    ) -> Instance:
        """Ask for a completion without stop words."""
        arguments = (ctx, generation_arguments(doc))
        return Instance("generate_until", doc, arguments, idx=0, metadata=metadata)

    def process_results(self, doc: Sample, results: list[str | None]) -> dict[str, float]:
        """Return nothing: answers are scored once, when they come."""
        return {}

    def aggregation(self) -> dict[str, Callable[[list[float]], float]]:
        """Return nothing: the benchmark aggregates."""
        return {}

    def higher_is_better(self) -> dict[str, bool]:
        """Return nothing."""
        return {}


def generation_arguments(sample: Sample) -> dict[str, object]:
    """Return lm-eval's generation arguments: the backends add end-of-sequence to `until`."""
    return {
        "until": list(sample.stop),
        "max_gen_toks": sample.tokens_to_generate,
        "do_sample": sample.temperature > 0,
        "temperature": sample.temperature,
    }

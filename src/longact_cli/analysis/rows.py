"""The rows of an analysis's tidy files: one named tuple per file, one value per field."""

from typing import NamedTuple

ALL = "all"
FACTORS = (2.0, 3.0, 5.0, 10.0)
SHARES = (0.01, 0.05, 0.1, 0.3, 0.5)


class MeasureRow(NamedTuple):
    """How concentrated the activations of one head, or of one matrix (`head` = all), are.

    Attributes:
        model: Label.
        site: Where activations were read.
        statistic: What makes a channel's saliency of its activations.
        context: long or short.
        context_length: In tokens.
        seed: Of the prompts, or `all`.
        layer: From 0.
        kind: q or k.
        head: From 0, or `all`.
        tokens: Over all prompts.
        channels: In the head or matrix.
        mean_abs: Mean |x|.
        median_abs: Median |x|, from a histogram.
        above_2: Share of |x| above 2 x the median |x|, from a histogram; so are the next three.
        above_3: See `above_2`.
        above_5: See `above_2`.
        above_10: See `above_2`.
        kurtosis: Excess kurtosis of x.
        gini: Of the channels' saliency.
        channels_above_2: Share of channels whose saliency is above 2 x the median channel's.
        channels_above_3: See `channels_above_2`.
        channels_above_5: See `channels_above_2`.
        channels_above_10: See `channels_above_2`.
        top_1: Share of the saliency's sum in the most salient 1 % of channels.
        top_5: See `top_1`.
        top_10: See `top_1`.
        top_30: See `top_1`.
        top_50: See `top_1`.
    """

    model: str
    site: str
    statistic: str
    context: str
    context_length: int
    seed: str
    layer: int
    kind: str
    head: str
    tokens: int
    channels: int
    mean_abs: float
    median_abs: float
    above_2: float
    above_3: float
    above_5: float
    above_10: float
    kurtosis: float
    gini: float
    channels_above_2: float
    channels_above_3: float
    channels_above_5: float
    channels_above_10: float
    top_1: float
    top_5: float
    top_10: float
    top_30: float
    top_50: float


class RatioRow(NamedTuple):
    """Long against short context, over all seeds, for one head or one matrix (`head` = all).

    Attributes:
        model: Label.
        site: Where activations were read.
        statistic: What makes a channel's saliency.
        layer: From 0.
        kind: q or k.
        head: From 0, or `all`.
        mean_ratio: Mean saliency of the channels, long / short.
        salient_ratio: The same over the channels that are salient on long contexts.
        gini_difference: Gini, long - short.
    """

    model: str
    site: str
    statistic: str
    layer: int
    kind: str
    head: str
    mean_ratio: float
    salient_ratio: float
    gini_difference: float


class ChannelRow(NamedTuple):
    """One channel on one context length, over all seeds.

    Attributes:
        model: Label.
        site: Where activations were read.
        context: long or short.
        layer: From 0.
        kind: q or k.
        head: From 0.
        channel: Row of the matrix, from 0.
        statistic: Which statistic.
        saliency: Its value.
        salient: 1 if the channel is in the salient set at the analysis's sparsity.
    """

    model: str
    site: str
    context: str
    layer: int
    kind: str
    head: int
    channel: int
    statistic: str
    saliency: float
    salient: int


class BinRow(NamedTuple):
    """One bin of the histogram of |x| of one matrix (`head` = all) or head, over all seeds.

    Bins are a sixteenth of an octave wide for matrices and a quarter for heads.

    Attributes:
        model: Label.
        site: Where activations were read.
        context: long or short.
        layer: From 0.
        kind: q or k.
        head: From 0, or `all`.
        lower: Lower edge of |x|; values below 2^-30 are in the lowest bin.
        upper: Upper edge.
        activations: How many |x| lie in it.
    """

    model: str
    site: str
    context: str
    layer: int
    kind: str
    head: str
    lower: float
    upper: float
    activations: int


class OverlapRow(NamedTuple):
    """How much two sets of rows share, averaged over the pairs of one comparison.

    Attributes:
        comparison: What differs between the sets: length, seed, prompt, model, statistic, site,
            strategy or changed.
        model: Label of the model of both sides; empty where they differ, as are the next three.
        site: Where activations were read.
        statistic: What makes a channel's saliency.
        context: long or short.
        first: One side.
        second: The other side.
        layer: From 0.
        kind: q or k.
        head: From 0, or `all`.
        rows: Rows there are.
        pairs: Pairs of sets averaged over; pairs that are empty on both sides are left out.
        jaccard: Mean Jaccard overlap, 0..1.
        lowest: Of a single pair.
        highest: Of a single pair.
        expected: Mean overlap of random sets of the same sizes.
    """

    comparison: str
    model: str
    site: str
    statistic: str
    context: str
    first: str
    second: str
    layer: int
    kind: str
    head: str
    rows: int
    pairs: int
    jaccard: float
    lowest: float
    highest: float
    expected: float


class ChangedRow(NamedTuple):
    """How far one row moved between two checkpoints.

    Attributes:
        run: Label of the pair.
        measure: relative or absolute.
        layer: From 0.
        kind: q or k.
        head: From 0.
        row: Of the matrix, from 0.
        change: ||after - before||, divided by ||before|| where the measure is relative.
        changed: 1 if the row is among the most changed, at the analysis's sparsity.
    """

    run: str
    measure: str
    layer: int
    kind: str
    head: int
    row: int
    change: float
    changed: int


class PromptRow(NamedTuple):
    """One prompt that was measured.

    Attributes:
        model: Label; models with other tokenizers see other tokens.
        context: long or short.
        seed: Of the draw.
        prompt: Where it comes from.
        tokens: Its length.
        sha256: Of its tokens.
    """

    model: str
    context: str
    seed: int
    prompt: str
    tokens: int
    sha256: str

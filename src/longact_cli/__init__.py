"""longact: RL on long contexts with saliency-masked query/key gradients, reproduced and tested."""

__version__ = "0.1.0"

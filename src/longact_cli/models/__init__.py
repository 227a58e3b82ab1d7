"""Which checkpoint a model setting names, and how its weights and tokenizer are loaded."""

"""Run every measurement and print one line for each."""

from tests.bench import ruler_generation, startup

if __name__ == "__main__":
    startup.run()
    ruler_generation.run()

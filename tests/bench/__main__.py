"""Run every measurement and print one line for each."""

from tests.bench import mask_overhead, startup

if __name__ == "__main__":
    startup.run()
    mask_overhead.run()

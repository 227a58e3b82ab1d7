"""Run every measurement and print one line for each."""

from tests.bench import eval_overhead, mask_overhead, orchestration, ruler_generation, startup

if __name__ == "__main__":
    startup.run()
    orchestration.run()
    mask_overhead.run()
    eval_overhead.run()
    ruler_generation.run()

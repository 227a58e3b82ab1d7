"""Run every measurement and print one line for each."""

from tests.bench import startup

if __name__ == "__main__":
    startup.run()

"""A real MLflow server on the loopback, over its own database."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path


class Server:
    """Started and killed as often as one likes; database and files stay.

    Its database is `mlflow.db` and its files lie in `artifacts`, as in a store of `longact`.
    """

    def __init__(self, folder: Path, *, template: Path | None = None, workers: int = 1) -> None:
        """Prepare a server over the database in `folder`, or over a copy of `template`."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        if template is not None:
            folder.mkdir()
            shutil.copy(template, folder / "mlflow.db")
        self.folder = folder
        self.uri = f"http://127.0.0.1:{self.port}"
        self.workers = workers
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", str(self.workers)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        self.process = subprocess.Popen(
            command, start_new_session=True, cwd=self.folder,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < deadline, "the server did not come up"
                time.sleep(0.2)
            else:
                return

    def kill(self) -> None:
        """Kill it with its workers."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

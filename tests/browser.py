"""A headless Chromium for tests: opens a file, runs scripts, and tells what it asked for."""

import asyncio
import re
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_SECONDS = 30


class Page:
    """One open page; `requests` and `errors` grow while it is used."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._session: str | None = None
        self.requests: list[str] = []
        self.errors: list[str] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        await self._socket.send_json(message)
        while True:
            answer = await self._socket.receive_json(timeout=_SECONDS)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"]["text"])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])

    async def attach(self) -> None:
        target = await self.call("Target.createTarget", url="about:blank")
        found = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            await self.call(f"{domain}.enable")

    async def open(self, path: Path) -> None:
        await self.call("Page.navigate", url=path.as_uri())
        for _ in range(200):
            if await self.evaluate("document.readyState") == "complete":
                return
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{path} did not load")

    async def evaluate(self, script: str) -> Any:
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"])
        return found["result"].get("value")

    async def html(self, *, until: str) -> str:
        """The document once it holds `until`; works without scripts."""
        for _ in range(200):
            await asyncio.sleep(0.05)
            try:
                root = await self.call("DOM.getDocument", depth=0)
                found = await self.call("DOM.getOuterHTML", nodeId=root["root"]["nodeId"])
            except RuntimeError:
                continue  # the document was replaced between the two calls
            if until in found["outerHTML"] and "<h1" in found["outerHTML"]:
                return found["outerHTML"]
        raise TimeoutError("the page did not load")

    async def press(self, key: str) -> None:
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text,
                            windowsVirtualKeyCode=13 if key == "Enter" else 32)  # fmt: skip

    async def screenshot(self, path: Path) -> None:
        found = await self.call("Page.captureScreenshot", captureBeyondViewport=False)
        path.write_bytes(b64decode(found["data"]))


def browse(folder: Path, visit: Callable[[Page], Any]) -> Any:
    """Run `visit` with a page of a fresh browser whose profile lies in `folder`."""
    return asyncio.run(_browse(folder, visit))


async def _browse(folder: Path, visit: Callable[[Page], Any]) -> Any:
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
        "--disable-background-networking", "--window-size=1300,900",
        f"--user-data-dir={folder / 'profile'}", "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(_address(process), max_msg_size=0) as socket,
        ):
            page = Page(socket)
            await page.attach()
            return await visit(page)
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"DevTools listening on (ws://\S+)", line):
            return found[1]
    raise RuntimeError("Chromium ended before it listened")

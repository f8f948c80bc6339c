"""A real browser: Debian's Chromium, one for all tests of a file, a fresh context for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from support.tools import CHROMIUM, needs

PATIENCE_MS = 20_000
"""For anything that is waited for in a page; a busy machine takes its time."""


@contextmanager
def browsing() -> Iterator[Browser]:
    """A headless Chromium, its sandbox off, which root could not use; it sees nothing but our own pages."""
    program = needs(CHROMIUM)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, chromium_sandbox=False)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """A page that is looked at, and all that it did: what it asked for, what it complained of."""

    def __init__(self, browser: Browser, port: int, **emulated: Any) -> None:
        self.context = browser.new_context(**emulated)
        self.context.set_default_timeout(PATIENCE_MS)
        self.page: Page = self.context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self._origin = f"http://127.0.0.1:{port}"
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console", lambda said: self.complaints.append(said.text) if said.type in {"error", "warning"} else None
        )

    def go(self, place: str = "") -> Page:
        """Open a place and wait until its numbers stand there."""
        self.page.goto(f"{self._origin}/{place}")
        self.page.locator("main tbody tr").first.wait_for()
        return self.page

    def elsewhere(self) -> list[str]:
        """Requests that went anywhere but to the server of the page."""
        return [url for url in self.asked if not url.startswith(f"{self._origin}/")]

    def questions(self) -> list[str]:
        """The API's paths that were asked, with their queries."""
        parts = [urlsplit(url) for url in self.asked]
        return [f"{part.path}?{part.query}" for part in parts if part.path.startswith("/api/")]

    def obstacles(self) -> str:
        """What axe-core finds that keeps people from using the page; empty: nothing."""
        found = Axe().run(self.page)
        return str(found.generate_report()) if found.violations_count else ""

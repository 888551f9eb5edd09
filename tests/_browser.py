"""A headless Chromium that looks at the built pages."""

import shutil
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

CHROMIUM = next(
    filter(
        None,
        map(shutil.which, ("chromium", "chromium-browser", "google-chrome")),
    ),
    None,
)
HOST = "127.0.0.1"
_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def serving(folder):
    """The address of a server of that folder."""
    handler = partial(_Quiet, directory=str(folder))
    server = ThreadingHTTPServer((HOST, 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class View:
    """One window; it notes what goes wrong on the page that it shows."""

    def __init__(self, browser, width, scheme):
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        self.page = self.context.new_page()
        self.faults = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda e: self._note(f"script error: {e}"))
        self.page.on("request", self._request)
        self.page.on(
            "requestfailed",
            lambda r: self._note(f"request failed: {r.url} ({r.failure})"),
        )
        self.page.on("response", self._response)

    def open(self, address):
        """Show the page, wait for its formulas, and forget older faults."""
        self.faults.clear()
        self.page.goto(address, wait_until="load")
        self.page.evaluate("() => window.MathJax?.startup?.promise")

    def _note(self, fault):
        self.faults.append(fault)

    def _console(self, message):
        if message.type == "error":
            self._note(f"console: {message.text}")

    def _request(self, request):
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https") and parts.hostname != HOST:
            self._note(f"request to another host: {request.url}")

    def _response(self, response):
        if response.status >= 400:
            self._note(f"status {response.status}: {response.url}")


@contextmanager
def views(kinds):
    """One `View` for each (width, colour scheme)."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=_ARGUMENTS
        )
        yield {kind: View(browser, *kind) for kind in kinds}
        browser.close()

"""The site that `make docs` builds, in a browser, light and dark. It keeps screenshots."""

import html
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import generated
import pytest
from paths import DOCS, ROOT

SITE = ROOT / "build" / "site"
SCREENSHOTS = ROOT / "build" / "screenshots"
CHROMIUM = shutil.which("chromium")
SCHEMES = {"light": "default", "dark": "slate"}
"""What the system prefers, and the colours that the site then has."""

pytestmark = [
    pytest.mark.environments,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH"),
    pytest.mark.skipif(not SITE.exists(), reason="needs the site: make docs"),
]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def browse(url: str, scheme: str, *options: str) -> str:
    """What chromium prints for a page."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--window-size=1360,1800", "--virtual-time-budget=5000"]
    command += [f"--blink-settings=preferredColorScheme={1 if scheme == 'light' else 0}", *options]
    done = subprocess.run([*command, url], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("page", "heading"),
    [("index", "rpcproto"), ("reference/rpcproto", "RpcEngine"), ("conformance", "Conformance")],
)
def test_a_page_looks_as_the_system_prefers(url: str, page: str, heading: str, scheme: str) -> None:
    place = f"{url}/{page}.html"
    document = browse(place, scheme, "--dump-dom")
    assert heading in document
    assert f'data-md-color-scheme="{SCHEMES[scheme]}"' in document
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    picture = SCREENSHOTS / f"{Path(page).name}-{scheme}.png"
    browse(place, scheme, f"--screenshot={picture}")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 50_000


def test_long_signatures_have_a_line_for_each_parameter() -> None:
    page = (SITE / "reference" / "rpcproto.html").read_text("utf-8")
    assert "RpcEngine(\n    identity: str,\n" in html.unescape(re.sub(r"<[^>]+>", "", page))


def test_the_search_finds_every_page_and_every_public_name(url: str) -> None:
    assert 'data-md-component="search-query"' in browse(f"{url}/index.html", "light", "--dump-dom")
    index = json.loads((SITE / "search" / "search_index.json").read_text("utf-8"))
    places = {entry["location"] for entry in index["docs"]}
    assert places >= {f"{page.stem}.html" for page in DOCS.glob("*.md")}
    assert places >= {
        f"reference/{module}.html#{module}.{name.name}"
        for module in generated.MODULES
        for name in generated.own_names(module)
    }

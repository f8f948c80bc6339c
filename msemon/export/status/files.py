"""The page's own files: what a browser loads, and all that it may load."""

from __future__ import annotations

from importlib import resources

from msemon.export.wire import Response

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Content-Security-Policy: nothing inline, nothing from elsewhere, and no text that a script could make markup of."""

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_INDEX = "index.html"


def page_files() -> dict[str, Response]:
    """By path: the page at /, and what belongs to it under /static/."""
    folder = resources.files(__package__) / "static"
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    answers = {
        name: Response(200, body, _TYPES[name[name.rindex(".") :]]) for name, body in files.items() if "." in name
    }
    return {"/": answers.pop(_INDEX)} | {f"/static/{name}": answer for name, answer in answers.items()}

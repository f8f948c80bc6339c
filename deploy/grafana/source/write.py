"""Writes the dashboards' JSON: `python deploy/grafana/source/write.py [FOLDER]`, by default where they are kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import model
import models
import pipeline
from shapes import UIDS

FOLDER = Path(__file__).resolve().parents[1] / "dashboards"


def main(folder: Path) -> None:
    """Into this folder, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for module in (models, model, pipeline):
        text = json.dumps(module.DASHBOARD.to_json(), indent=2, ensure_ascii=False) + "\n"
        (folder / f"{UIDS[module.DASHBOARD.title]}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)

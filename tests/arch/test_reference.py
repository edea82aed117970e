"""The generated pages of docs/reference say what the code says."""

from scripts.reference import FOLDER, pages


def test_generated_pages_are_up_to_date() -> None:
    for name, text in pages().items():
        assert (FOLDER / name).read_text() == text, f"{name} is old; run: make reference"


def test_every_metric_and_setting_is_explained() -> None:
    found = pages()
    for name in ("metrics.md", "settings.md"):
        rows = [line for line in found[name].splitlines() if line.startswith("| `")]
        assert len(rows) > 30
        assert not [row for row in rows if row.rstrip(" |").endswith("|") or "|  |" in row]

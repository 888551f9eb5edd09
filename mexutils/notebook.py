"""What a notebook shows; plain text where there is no IPython.

`load_chapter` imports what a chapter imports, and must do so in a plain
script too.
"""

import os

from tqdm import tqdm

try:
    from IPython.display import HTML, Markdown, display
except ModuleNotFoundError:

    class Markdown(str):
        """Text that a notebook would render."""

    HTML = Markdown

    def display(shown, raw: bool = False) -> None:
        """Print what a notebook would display."""
        print(shown["text/plain"] if raw else shown)


__all__ = ["HTML", "Markdown", "display", "progress"]


def progress(steps, what: str):
    """A progress bar over `steps`, quiet where `CI` is set."""
    return tqdm(steps, desc=what, leave=False, disable="CI" in os.environ)

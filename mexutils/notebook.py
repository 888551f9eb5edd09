"""What a notebook shows; plain text where there is no IPython.

`load_chapter` imports what a chapter imports, and must do so in a plain
script too.
"""

try:
    from IPython.display import HTML, Markdown, display
except ModuleNotFoundError:

    class Markdown(str):
        """Text that a notebook would render."""

    HTML = Markdown

    def display(shown, raw: bool = False) -> None:
        """Print what a notebook would display."""
        print(shown["text/plain"] if raw else shown)


__all__ = ["HTML", "Markdown", "display"]

"""The page with every claim of every chapter: a summary, then the tables.

The filters are drawn by book/_static/scoreboard.js; without a script the whole
page stands there. On a phone page.css turns each row into a card, for which
every cell carries the name of its column.
"""

from html import escape
from typing import NamedTuple

from mexutils.claims import Claim, claims_table

MISSED = "background-color: rgba(210, 40, 40, 0.25)"  # on light and on dark
HEAD = """# Scoreboard

Every claim of every chapter, as this run measured it.
A missed claim is a result: its row is coloured and says NO.
A run that misses one is not published.
How far other machines, seeds and victims move the values stands on
[a page of its own](stability.md), and what they mean for the survey
[on another](survey.md).
The value of a paper is printed where it was read in a source.
"""
FILTER = """<form id="claims-filter" role="search" hidden
  aria-label="Choose which claims are shown">
<p><label for="claims-words">Words in the claim</label>
<input id="claims-words" type="search" autocomplete="off"></p>
<p><label for="claims-chapter">Chapter</label>
<select id="claims-chapter">
<option value="">all chapters</option>
{options}
</select></p>
<p><label for="claims-verdict">Result</label>
<select id="claims-verdict">
<option value="">any</option>
<option value="yes">held</option>
<option value="no">missed</option>
<option value="noisy">too noisy here</option>
</select></p>
<p><label><input id="claims-paper" type="checkbox">
with a paper's value</label></p>
<p><button type="reset">Show all</button>
<output id="claims-count" aria-live="polite"></output></p>
</form>"""


class Chapter(NamedTuple):
    """What the page says of a chapter.

    name: its path below book/. run: a sentence on its run.
    """

    name: str
    title: str
    claims: list[Claim]
    broke_off: bool
    run: str

    @property
    def anchor(self) -> str:
        """Where its table stands on the page."""
        return "claims-" + self.name.replace("/", "-").replace("_", "-")


def scoreboard(chapters: list[Chapter]) -> str:
    """The page, as MyST markdown, in the given order."""
    made = [c for chapter in chapters for c in chapter.claims]
    options = "\n".join(
        f'<option value="{c.anchor}">{escape(c.title)}</option>'
        for c in chapters
        if c.claims
    )
    page = [HEAD, counted(made), "", _summary(chapters), ""]
    page += ["## All claims", "", FILTER.format(options=options), ""]
    for chapter in chapters:
        page += [f"({chapter.anchor})="]
        page += [f"## [{chapter.title}]({chapter.name}.ipynb)", ""]
        if chapter.broke_off:
            page += ["This chapter broke off before the end.", ""]
        if chapter.claims:
            page += [_table(chapter), ""]
        if chapter.run:
            page += [chapter.run, ""]
    return "\n".join(page).rstrip("\n") + "\n"


def counted(claims: list[Claim]) -> str:
    """How many claims there are, and how many are missed."""
    missed = sum(claim.missed for claim in claims)
    return f"**{len(claims)} claims, {missed} missed.**"


def _summary(chapters: list[Chapter]) -> str:
    """One row a chapter, with links into the page."""
    heads = ("chapter", "claims", "hold", "missed", "too noisy", "paper's")
    lines = ['<div class="scroll" tabindex="0" role="region"']
    lines += ['  aria-label="Claims by chapter">']
    lines += ['<table class="dataframe counts">', "<thead><tr>"]
    lines += [f'<th scope="col">{head}</th>' for head in heads]
    lines += ["</tr></thead>", "<tbody>"]
    for chapter in chapters:
        numbers = _numbers(chapter.claims)
        name = f'<a href="#{chapter.anchor}">{escape(chapter.title)}</a>'
        name += " (broke off)" * chapter.broke_off
        missed = f' class="missed-count" style="{MISSED}"'
        style = missed if numbers[2] else ""
        cells = "".join(f"<td>{number}</td>" for number in numbers)
        lines.append(f'<tr{style}><th scope="row">{name}</th>{cells}</tr>')
    total = _numbers([c for chapter in chapters for c in chapter.claims])
    cells = "".join(f"<td>{number}</td>" for number in total)
    lines.append(f'<tr><th scope="row">all</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody></table></div>"])


def _numbers(claims: list[Claim]) -> tuple[int, ...]:
    return (
        len(claims),
        sum(not c.missed and not c.noisy for c in claims),
        sum(c.missed for c in claims),
        sum(c.noisy for c in claims),
        sum(bool(c.paper) for c in claims),
    )


def _table(chapter: Chapter) -> str:
    """The claims of a chapter, each row with what the filters ask."""
    table = claims_table(chapter.claims)
    lines = ['<table class="dataframe claims" ']
    lines[0] += f'data-chapter="{chapter.anchor}">'
    lines += ["<thead><tr>"]
    lines += [f'<th scope="col">{name}</th>' for name in table.columns]
    lines += ["</tr></thead>", "<tbody>"]
    rows = table.itertuples(index=False)
    for claim, row in zip(chapter.claims, rows, strict=True):
        style = f' class="missed" style="{MISSED}"' if claim.missed else ""
        verdict = "no" if claim.missed else "yes"
        verdict = "noisy" if claim.noisy else verdict
        about = f' data-verdict="{verdict}"'
        about += ' data-paper="1"' * bool(claim.paper)
        name, *others = (
            f' data-label="{escape(label)}">{escape(text)}<'
            for label, text in zip(table.columns, row, strict=True)
        )
        cells = f'<th scope="row"{name}/th>'
        cells += "".join(f"<td{other}/td>" for other in others)
        lines.append(f"<tr{style}{about}>{cells}</tr>")
    return "\n".join([*lines, "</tbody></table>"])

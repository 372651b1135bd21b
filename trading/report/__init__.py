"""The daily report of a plan: figures read from the ledger, as a Markdown page and as one self-contained HTML file."""

from trading.report.figures import Figures, gather
from trading.report.html import to_html
from trading.report.markdown import headline, to_markdown

__all__ = ["Figures", "gather", "headline", "to_html", "to_markdown"]

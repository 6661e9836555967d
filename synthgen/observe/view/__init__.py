"""`report.html`: one self-contained page that shows a run to people."""

from synthgen.observe.view.page import make_html, render_page, write_page
from synthgen.observe.view.samples import make_sample, sample_pairs

__all__ = ["make_html", "make_sample", "render_page", "sample_pairs", "write_page"]

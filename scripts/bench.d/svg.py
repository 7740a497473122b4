"""The few elements that the pictures of the documents are made of. Each stands on a card of its own, light or dark as
the reader has it, so that it can be read on any page."""
from xml.sax.saxutils import escape

STYLE = """
  text { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; font-size: 13px; fill: #1f2328 }
  .card { fill: #ffffff; stroke: #d1d9e0 } .soft { fill: #59636e } .grid { stroke: #d1d9e0 } .title { font-size: 17px; font-weight: 600 }
  .bold { font-weight: 600 } .small { font-size: 11px } .end { text-anchor: end } .middle { text-anchor: middle }
  .mark { stroke: #1f2328; stroke-dasharray: 4 3 } .lane { fill: #f3f5f7 }
  .value { paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .card { fill: #0d1117; stroke: #3d444d } .soft { fill: #9198a1 } .grid { stroke: #3d444d }
    .mark { stroke: #e6edf3 } .lane { fill: #161b22 } .value { stroke: #0d1117 }
  }
"""


def text(x, y, words, classes=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{classes}">{escape(str(words))}</text>'


def rect(x, y, width, height, fill="", classes="", title="", round=0):
    fill = f' fill="{fill}"' if fill else ""
    inner = f"<title>{escape(title)}</title>" if title else ""
    return f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" rx="{round}"{fill} class="{classes}">{inner}</rect>'


def line(x1, y1, x2, y2, classes="grid"):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{classes}"/>'


def picture(width, height, description, elements):
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
        f"<title>{escape(description)}</title>", f"<style>{STYLE}</style>",
        rect(.5, .5, width - 1, height - 1, classes="card", round=8), *elements, "</svg>", ""])

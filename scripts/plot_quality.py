"""Draws error against bits, of presets and what they are compared with, from the JSON of `cdna bench quality`.

    python3 plot_quality.py IN.json OUT.svg

One panel for each source of weights: bits per weight to the right, signal over noise in dB upwards, and the rate-distortion bound that
the benchmark states for the source, which rises by 6.02 dB a bit. Every point has its label beside it. The picture follows the reader's
light or dark theme. Needs nothing but Python.
"""
import argparse
import dataclasses
import json
import math
import sys
import xml.sax.saxutils

SOURCES = {"A": "A · Gaussian", "B": "B · Student t, 6 degrees of freedom", "C": "C · B with 0.1 % outliers, × 8"}
DECIBELS_PER_BIT = 20 * math.log10(2)

PANEL_WIDTH, PANEL_HEIGHT, GAP = 292, 380, 14
LEFT, TOP, BOTTOM, RIGHT, MARGIN = 46, 62, 44, 10, 3
BITS, DECIBELS = (3.75, 10), (15, 55)
FONT, CHARACTER_WIDTH, LINE_HEIGHT, RADIUS = 12, 7.2, 13, 4  # A wide font: the reader's may be narrower.

STYLE = """
  text { font: 12px system-ui, 'DejaVu Sans', sans-serif; fill: #333; }
  .title { font-weight: 600; }
  .grid { stroke: #8884; stroke-width: 1; }
  .frame { stroke: #8888; stroke-width: 1; fill: none; }
  .bound { stroke: #777; stroke-width: 1.5; stroke-dasharray: 5 4; }
  .leader { stroke: #888; stroke-width: 0.8; }
  .preset { fill: #1559b7; } text.preset { font-weight: 600; }
  .other { fill: #b04a00; }
  .soft { fill: #666; }
  @media (prefers-color-scheme: dark) {
    text { fill: #ddd; }
    .preset { fill: #7fb2ff; } .other { fill: #f2a35e; } .soft { fill: #aaa; } .bound { stroke: #999; }
  }
"""


def x_of(bits):
    """In the panel, in pixels."""
    return (bits - BITS[0]) / (BITS[1] - BITS[0]) * PANEL_WIDTH


def y_of(decibels):
    return (DECIBELS[1] - decibels) / (DECIBELS[1] - DECIBELS[0]) * PANEL_HEIGHT


@dataclasses.dataclass
class Point:
    """A preset or another method on one source."""
    name: str
    is_preset: bool
    bits: float
    decibels: float

    @property
    def x(self):
        return x_of(self.bits)

    @property
    def y(self):
        return y_of(self.decibels)

    @property
    def is_inside(self):
        return BITS[0] < self.bits < BITS[1] and DECIBELS[0] < self.decibels < DECIBELS[1]


@dataclasses.dataclass
class Bound:
    """What no code exceeds: `at_zero` dB, and 6.02 more for each bit."""
    at_zero: float

    def y(self, x):
        bits = BITS[0] + x / PANEL_WIDTH * (BITS[1] - BITS[0])
        return y_of(self.at_zero + bits * DECIBELS_PER_BIT)

    @property
    def end(self):
        """The x where it leaves the panel."""
        return min(x_of((DECIBELS[1] - self.at_zero) / DECIBELS_PER_BIT), PANEL_WIDTH)

    def boxes(self):
        return [Box(x, self.y(x + 4), x + 4, self.y(x)) for x in range(0, int(self.end), 4)]

    def draw(self):
        yield f'<line class="bound" x1="0" y1="{self.y(0):.1f}" x2="{self.end:.1f}" y2="{self.y(self.end):.1f}"/>'
        slope = math.degrees(math.atan2(self.y(self.end) - self.y(0), self.end))
        x, y = 0.4 * PANEL_WIDTH, self.y(0.4 * PANEL_WIDTH) - 11
        yield text(x, y, "rate–distortion bound", "soft", text_anchor="middle", transform=f"rotate({slope:.1f} {x:.1f} {y:.1f})")


@dataclasses.dataclass
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other):
        """In square pixels."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0) * max(height, 0)

    def outside_panel(self):
        """By how many pixels it comes closer to the frame than it should."""
        right, bottom = PANEL_WIDTH - MARGIN, PANEL_HEIGHT - MARGIN
        return max(MARGIN - self.left, 0) + max(self.right - right, 0) + max(MARGIN - self.top, 0) + max(self.bottom - bottom, 0)


def read_panels(document):
    """Source -> (points, bound). Rows of other sources and of other figures than dB are left out."""
    rows = {source: [] for source in SOURCES}
    for row in document["rows"]:
        if row["unit"] == "dB" and row["params"]["source"] in rows:
            rows[row["params"]["source"]].append(row)
    return {source: (list(map(point_of, found)), bound_of(found)) for source, found in rows.items()}


def point_of(row):
    params = row["params"]
    return Point(row["case"], params["kind"] == "preset", params["bits_per_weight"], row["value"])


def bound_of(rows):
    return Bound(min((row["reference_value"] - row["params"]["bits_per_weight"] * DECIBELS_PER_BIT for row in rows), default=0))


@dataclasses.dataclass
class Label:
    """Text whose baseline begins, has its middle, or ends (SVG's text-anchor) at (x, y)."""
    point: Point
    anchor: str
    x: float
    y: float

    @property
    def box(self):
        width = len(self.point.name) * CHARACTER_WIDTH
        left = self.x - {"start": 0, "middle": width / 2, "end": width}[self.anchor]
        return Box(left - 1, self.y - FONT + 2, left + width + 1, self.y + 3)


def possible_labels(point):
    """(cost, label): beside the point, then farther away."""
    anchors = {1: "start", 0: "middle", -1: "end"}
    for distance in range(0, 60, 6):
        for direction, (right, down) in enumerate(((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))):
            x = point.x + right * (distance + RADIUS + 4 if not down else 0.4 * distance)
            y = point.y + 4 + down * (LINE_HEIGHT + distance)
            yield 12 * distance + 2 * direction, Label(point, anchors[right], x, y)


def place_labels(points, bound):
    """One for each point, greedily: those on the right, where it is crowded, first."""
    taken = [Box(point.x - RADIUS - 1, point.y - RADIUS - 1, point.x + RADIUS + 1, point.y + RADIUS + 1) for point in points]
    taken += bound.boxes()

    def cost(possible):
        box = possible[1].box
        return possible[0] + 20 * sum(map(box.overlap, taken)) + 1000 * box.outside_panel()

    for point in sorted(points, key=lambda point: -point.bits):
        _, label = min(possible_labels(point), key=cost)
        taken.append(label.box)
        yield label


def leader(label):
    """A line from a label to its point, if they are not neighbours."""
    box, point = label.box, label.point
    x, y = min(max(point.x, box.left), box.right), min(max(point.y, box.top + 2), box.bottom - 2)
    if math.hypot(x - point.x, y - point.y) > 3 * RADIUS:
        yield f'<line class="leader" x1="{point.x:.1f}" y1="{point.y:.1f}" x2="{x:.1f}" y2="{y:.1f}"/>'


def marker(point):
    if point.is_preset:
        return f'<circle class="preset" cx="{point.x:.1f}" cy="{point.y:.1f}" r="{RADIUS}"/>'
    side = 2 * RADIUS - 1
    return f'<rect class="other" x="{point.x - side / 2:.1f}" y="{point.y - side / 2:.1f}" width="{side}" height="{side}"/>'


def text(x, y, words, kind="", **attributes):
    more = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
    kind = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{kind}{more}>{xml.sax.saxutils.escape(words)}</text>'


def axes(source, first):
    yield text(0, -10, SOURCES[source], "title")
    for bits in range(math.ceil(BITS[0]), math.floor(BITS[1]) + 1):
        x = x_of(bits)
        yield f'<line class="grid" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{PANEL_HEIGHT}"/>'
        yield text(x, PANEL_HEIGHT + 16, str(bits), text_anchor="middle")
    for decibels in range(DECIBELS[0], DECIBELS[1] + 1, 10):
        y = y_of(decibels)
        yield f'<line class="grid" x1="0" y1="{y:.1f}" x2="{PANEL_WIDTH}" y2="{y:.1f}"/>'
        if first:
            yield text(-6, y + 4, str(decibels), text_anchor="end")
    yield f'<rect class="frame" width="{PANEL_WIDTH}" height="{PANEL_HEIGHT}"/>'
    yield text(PANEL_WIDTH / 2, PANEL_HEIGHT + 34, "bits per weight", "soft", text_anchor="middle")


def panel(source, points, bound, index):
    yield f'<g transform="translate({LEFT + index * (PANEL_WIDTH + GAP)} {TOP})">'
    yield from axes(source, first=index == 0)
    yield from bound.draw()
    labels = list(place_labels(points, bound))
    for label in labels:
        yield from leader(label)
    yield from map(marker, points)
    for label in labels:
        yield text(label.x, label.y, label.point.name, "preset" if label.point.is_preset else "other", text_anchor=label.anchor)
    yield "</g>"


def legend(right):
    """Ends at x = `right`."""
    yield f'<circle class="preset" cx="{right - 258}" cy="16" r="{RADIUS}"/>'
    yield text(right - 248, 20, "presets of cdna", "preset")
    yield f'<rect class="other" x="{right - 112.5}" y="12.5" width="7" height="7"/>'
    yield text(right, 20, "other methods", "other", text_anchor="end")


def drawing(panels):
    width = LEFT + len(SOURCES) * (PANEL_WIDTH + GAP) - GAP + RIGHT
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {TOP + PANEL_HEIGHT + BOTTOM}" role="img">'
    yield "<title>Signal over noise against bits per weight</title>"
    yield f"<style>{STYLE}</style>"
    yield text(LEFT, 20, "Error of compressed weights: signal over noise in dB (higher is better)", "title")
    yield from legend(width - RIGHT)
    for index, (source, (points, bound)) in enumerate(panels.items()):
        yield from panel(source, points, bound, index)
    yield "</svg>"


def main():
    parser = argparse.ArgumentParser(description="Draws error against bits from the JSON of cdna bench quality.")
    parser.add_argument("input", metavar="IN.json")
    parser.add_argument("output", metavar="OUT.svg")
    options = parser.parse_args()
    with open(options.input, encoding="utf-8") as file:
        panels = read_panels(json.load(file))
    for source, (points, _) in panels.items():
        if not points:
            sys.exit(f"{options.input}: nothing about source {source}")
        for point in points:
            if not point.is_inside:
                sys.exit(f"{options.input}: {source}, {point.name}: {point.bits:.2f} bits and {point.decibels:.1f} dB are outside the axes")
    with open(options.output, "w", encoding="utf-8") as file:
        file.write("\n".join(drawing(panels)) + "\n")


if __name__ == "__main__":
    main()

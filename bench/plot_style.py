"""How the benches' plots look: matplotlib without a display, dark on light, one colour for each codec."""

import io
from typing import TYPE_CHECKING, Any, Final

from mien.protocol.errors import MienError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Ours are warm, video is cold, simple codes of the same coefficients are grey.
COLOURS: Final = {
    "mien": "#c8451b",
    "mien low": "#e39a35",
    "mien normal": "#c8451b",
    "mien high": "#8d1f3f",
    "tier W": "#e39a35",
    "tier W+scene": "#c8451b",
    "tier S": "#8d1f3f",
    "SVT-AV1": "#0b6e8f",
    "VP9": "#3c9d5d",
    "x265": "#6a57b5",
    "x264": "#4a7fd1",
    "VP8": "#12a39a",
    "float16": "#9a9a9a",
    "int8": "#6f6f6f",
    "int8 + zlib": "#444444",
}
MARKERS: Final = {"SVT-AV1": "o", "VP9": "s", "x265": "D", "x264": "^", "VP8": "v"}
_STYLE: Final[dict[Any, Any]] = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.edgecolor": "#8a929b",
    "axes.labelcolor": "#1d2126",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e6ea",
    "font.size": 11,
    "legend.frameon": False,
    "xtick.color": "#4a525a",
    "ytick.color": "#4a525a",
}
DPI: Final = 120


def pyplot() -> Any:
    """Return matplotlib's pyplot, drawing to memory in the benches' style. Raises `MienError` without matplotlib."""
    try:
        import matplotlib
    except ImportError as error:
        raise MienError(
            f"no matplotlib for the plots of the report ({error}): pip install 'mien[bench]'"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot as plots

    plots.rcdefaults()
    plots.rcParams.update(_STYLE)
    return plots


def png(figure: "Figure") -> bytes:
    """Return the figure as PNG, and free it."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    pyplot().close(figure)
    return file.getvalue()

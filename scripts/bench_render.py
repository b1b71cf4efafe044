"""Milliseconds per frame: our renderer against MuJoCo's own settings.

    python scripts/bench_render.py [N] [OUT.json]

All three draw the same N scenes of 64 x 64 pixels in one process, in alternating blocks, so that
other work on the machine slows all alike:

    ours             one model, rewritten for each frame, a shadow map of 512 texels a side
    defaults         one OpenGL context with MuJoCo's quality (4096 texels), each frame compiled
    per_image        a model, and so a context, per image, as the scenes of Du et al. (2020)
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ebmcli.datasets import renderer
from ebmcli.datasets.frame import Frame
from ebmcli.datasets.renderer import Renderer, rotation_matrix
from ebmcli.datasets.scenes import draw, frame

SIZE = 64  # pixels a side
BLOCK = 10  # frames
TARGET = 5.0  # times faster than the defaults


def main() -> None:
    """Measure, print the figures, and write them if asked."""
    n_frames = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    rng = np.random.default_rng(0)
    frames = [frame(draw(rng), rng) for _ in range(n_frames)]
    os.environ.setdefault("MUJOCO_GL", "egl")
    import mujoco  # not before: it chooses its OpenGL when it is imported

    with Renderer(size=SIZE) as ours, default_renderer() as defaults:

        def compile_and_draw(wanted: Frame) -> np.ndarray:
            mujoco.MjModel.from_xml_string(reference_xml(wanted))
            return defaults.render(wanted)

        ways = {"ours": ours.render, "defaults": compile_and_draw, "per_image": draw_per_image}
        times: dict[str, list[float]] = {name: [] for name in ways}
        for way in ways.values():
            way(frames[0])
        for start in range(0, n_frames, BLOCK):
            for name, way in ways.items():
                times[name].append(timed(way, frames[start : start + BLOCK]))
    document = json.dumps(summary(times, n_frames), indent=2)
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(document + "\n", encoding="utf-8")
    print(document)


def default_renderer() -> Renderer:
    """Our renderer with the quality settings that MuJoCo has when none are given."""
    kept = renderer.SHADOW_TEXELS
    renderer.SHADOW_TEXELS = 4096
    try:
        return Renderer(size=SIZE, roundness=(28, 16))
    finally:
        renderer.SHADOW_TEXELS = kept


def timed(render, frames: Sequence[Frame]) -> float:
    """Milliseconds per frame over a block."""
    start = time.perf_counter()
    for each in frames:
        render(each)
    return 1000 * (time.perf_counter() - start) / len(frames)


def summary(times: dict[str, list[float]], n_frames: int) -> dict[str, object]:
    """Medians over the blocks, the fastest blocks, and the ratios of the medians."""
    medians = {name: statistics.median(blocks) for name, blocks in times.items()}
    return {
        "frames": n_frames,
        "size": SIZE,
        "ms_per_frame": {name: round(value, 2) for name, value in medians.items()},
        "ms_per_frame_fastest_block": {name: round(min(b), 2) for name, b in times.items()},
        "speedup": {
            name: round(medians[name] / medians["ours"], 1) for name in ("defaults", "per_image")
        },
        "target": TARGET,
        "reached": medians["defaults"] / medians["ours"] >= TARGET,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}",
        "mujoco": version("mujoco"),
        "mujoco_gl": os.environ["MUJOCO_GL"],
    }


def draw_per_image(wanted: Frame) -> np.ndarray:
    """A scene by a model, a context and buffers of its own, with MuJoCo's quality settings."""
    import mujoco

    model = mujoco.MjModel.from_xml_string(reference_xml(wanted))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with mujoco.Renderer(model, SIZE, SIZE) as drawing:
        drawing.update_scene(data, camera="eye")
        return drawing.render()


def reference_xml(wanted: Frame) -> str:
    """The frame in MuJoCo's own language."""
    solid = wanted.geoms[0]
    size = solid.size + (0.0,) * (3 - len(solid.size))
    backward = np.subtract(wanted.camera_position, wanted.camera_target)
    backward /= np.linalg.norm(backward)
    right = np.cross((0.0, 0.0, 1.0), backward)
    right /= np.linalg.norm(right)
    axes = (*right, *np.cross(backward, right))
    matrix = rotation_matrix(solid.rotation)
    toward = np.subtract(wanted.light_target, wanted.light_position)
    return f"""<mujoco>
  <worldbody>
    <light directional="true" pos="{text(wanted.light_position)}" dir="{text(toward)}"
           diffuse="{text(wanted.light_color)}"/>
    <camera name="eye" pos="{text(wanted.camera_position)}" xyaxes="{text(axes)}"
            fovy="{wanted.field_of_view}"/>
    <geom type="box" size="5 5 0.05" pos="0 0 -0.05" rgba="{text(wanted.floor_color or ())} 1"/>
    <geom type="{solid.kind}" size="{text(size)}" pos="{text(solid.position)}"
          xyaxes="{text((*matrix[:, 0], *matrix[:, 1]))}" rgba="{text(solid.color)} 1"/>
  </worldbody>
</mujoco>"""


def text(numbers: Sequence[float] | np.ndarray) -> str:
    """Numbers as an XML attribute."""
    return " ".join(f"{number:.6g}" for number in numbers)


if __name__ == "__main__":
    main()

"""Frame -> picture; the only file that knows MuJoCo.

MuJoCo's simulation is not used, only its renderer: one model is compiled, and for each picture the
solids, light and camera of the abstract scene are written over. A software OpenGL spends most of a
picture on the shadow map, so that map is small (512 texels a side instead of 4096). The light is
directional: MuJoCo shades corners only, on which a cone of light would look wrong.
"""

import importlib
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebmcli.datasets.frame import Frame, Geom, Vector
from ebmcli.errors import RenderError

MAX_GEOMS = 128  # chosen: above what any recipe draws
SHADOW_TEXELS = 512  # a side; recipe for a software OpenGL
N_SAMPLES = 4  # per pixel, for smooth edges
FLOOR_REACH = 40.0  # world units from the origin; its edge lies outside every picture
FLOOR_THICKNESS = 0.1  # world units
NEAR, FAR = 0.1, 40.0  # world units from the camera
SPECULAR, SHININESS = 0.15, 0.4  # of every solid; chosen: a faint highlight
ROUNDNESS = (32, 24)  # slices and stacks of a sphere; no corner is seen at 128 pixels
MIN_SIZE, MAX_SIZE = 8, 1024  # pixels; chosen

_MODEL = """<mujoco>
  <visual>
    <quality shadowsize="{shadow}" offsamples="{samples}"
             numslices="{slices}" numstacks="{stacks}"/>
    <global offwidth="{size}" offheight="{size}"/>
  </visual>
  <asset>
    <texture type="skybox" builtin="flat" rgb1="0 0 0" rgb2="0 0 0" width="4" height="24"/>
  </asset>
  <worldbody><light directional="true"/><light directional="true"/><geom size="1"/></worldbody>
</mujoco>"""


def backends() -> tuple[str, ...]:
    """Names of the OpenGL bindings to try, in order; MUJOCO_GL, where set, is the only one."""
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    if asked:
        return (asked,)
    return {"darwin": ("cgl",), "win32": ("glfw",)}.get(sys.platform, ("egl", "osmesa"))


class Renderer:
    """Draws frames as square pictures of ``size`` pixels; not to be shared by threads.

    ``roundness`` are the slices and stacks of triangles that make up a sphere: the cost of a frame
    with many solids is proportional to them.
    """

    def __init__(self, *, size: int, roundness: tuple[int, int] = ROUNDNESS) -> None:
        if not MIN_SIZE <= size <= MAX_SIZE:
            raise ValueError(f"size must be from {MIN_SIZE} to {MAX_SIZE}, got {size}")
        self.size = size
        self._mujoco, self._gl, self._model, self._context = _open_gl(size, roundness)
        mj = self._mujoco
        mj.mjr_setBuffer(mj.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._scene = mj.MjvScene(self._model, maxgeom=MAX_GEOMS)
        data = mj.MjData(self._model)
        mj.mj_forward(self._model, data)
        category = mj.mjtCatBit.mjCAT_ALL.value
        view = mj.MjvCamera()
        mj.mjv_updateScene(self._model, data, mj.MjvOption(), None, view, category, self._scene)
        flags = self._scene.flags
        flags[mj.mjtRndFlag.mjRND_REFLECTION] = flags[mj.mjtRndFlag.mjRND_HAZE] = 0
        self._background: Vector = (0.0, 0.0, 0.0)
        self._pixels = np.empty((size, size, 3), dtype=np.uint8)

    def render(self, frame: Frame) -> NDArray[np.uint8]:
        """Draw one frame: uint8 (size, size, 3), the top row first.

        Raises:
            ValueError: More solids than the renderer holds.
        """
        mj = self._mujoco
        self._gl.make_current()
        self._paint_background(frame.background)
        self._place_solids(frame)
        self._place_lights(frame)
        self._place_camera(frame)
        viewport = mj.MjrRect(0, 0, self.size, self.size)
        mj.mjr_render(viewport, self._scene, self._context)
        mj.mjr_readPixels(self._pixels, None, viewport, self._context)
        return self._pixels[::-1].copy()

    def close(self) -> None:
        """Release OpenGL; the renderer is of no use afterwards."""
        self._gl.make_current()  # else the names of another context would be freed
        self._context.free()
        self._gl.free()

    def __enter__(self) -> "Renderer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _paint_background(self, color: Vector) -> None:
        """Fill the sky, which no light reaches, with one colour."""
        if color == self._background:
            return
        pixels = (np.clip(color, 0, 1) * 255).round().astype(np.uint8)
        data = self._model.tex_data
        data[:] = np.resize(pixels, data.shape)
        self._mujoco.mjr_uploadTexture(self._model, self._context, 0)
        self._background = color

    def _place_solids(self, frame: Frame) -> None:
        """Write the solids, and the floor as a box under z = 0."""
        geoms = list(frame.geoms)
        if frame.floor_color is not None:
            half = FLOOR_THICKNESS / 2
            size = (FLOOR_REACH, FLOOR_REACH, half)
            floor = Geom(kind="box", position=(0.0, 0.0, -half), size=size, color=frame.floor_color)
            geoms.append(floor)
        if len(geoms) > MAX_GEOMS:
            raise ValueError(f"{len(geoms)} solids, but only {MAX_GEOMS} can be drawn")
        for target, geom in zip(self._scene.geoms, geoms, strict=False):
            self._write(target, geom)
        floor_slot = self._scene.geoms[len(geoms) - 1]
        if frame.floor_color is not None and hasattr(floor_slot, "castshadow"):  # MuJoCo 3.3
            floor_slot.castshadow = 0  # else it throws specks of shadow on itself
        self._scene.ngeom = len(geoms)

    def _write(self, target: Any, geom: Geom) -> None:
        """Write one solid over a slot of the scene."""
        kind = getattr(self._mujoco.mjtGeom, f"mjGEOM_{geom.kind.upper()}")
        self._mujoco.mjv_initGeom(
            target,
            kind.value,
            _full_size(geom),
            np.array(geom.position, dtype=np.float64),
            rotation_matrix(geom.rotation).ravel(),
            np.array((*geom.color, 1.0), dtype=np.float32),
        )
        target.specular, target.shininess = SPECULAR, SHININESS
        # what mjv_initGeom leaves alone: in a new scene, whatever the memory held before
        target.category = self._mujoco.mjtCatBit.mjCAT_STATIC.value  # decor throws no shadow
        target.objtype = self._mujoco.mjtObj.mjOBJ_UNKNOWN.value
        target.objid = target.segid = -1
        target.camdist = target.transparent = 0
        if hasattr(target, "castshadow"):
            target.castshadow = 1

    def _place_lights(self, frame: Frame) -> None:
        """A light from every side, without shadows, and a directional one with them."""
        scene = self._scene
        scene.nlight = 2
        position, target = np.array(frame.light_position), np.array(frame.light_target)
        reach = float(np.linalg.norm(target - position))
        around, sun = scene.lights[0], scene.lights[1]
        black, color = np.zeros(3, np.float32), np.array(frame.light_color, np.float32)
        around.ambient, around.diffuse, around.specular = (
            np.full(3, frame.ambient, np.float32),
            black,
            black,
        )
        sun.ambient, sun.diffuse, sun.specular = black, color, color
        for light in (around, sun):
            light.pos = position.astype(np.float32)
            light.dir = ((target - position) / reach).astype(np.float32)
            light.headlight = 0
        around.castshadow, sun.castshadow = 0, 1
        self._context.shadowClip = reach / 2  # shadows fall this far around the target

    def _place_camera(self, frame: Frame) -> None:
        """Point both eyes of the scene at the target, the sky up."""
        position = np.array(frame.camera_position, dtype=np.float64)
        forward = np.subtract(frame.camera_target, position)
        forward /= np.linalg.norm(forward)
        sky = np.array((0.0, 0.0, 1.0) if abs(forward[2]) < 0.999 else (0.0, 1.0, 0.0))
        up = sky - forward * (sky @ forward)
        top = NEAR * math.tan(math.radians(frame.field_of_view) / 2)
        for eye in self._scene.camera:
            eye.pos = position.astype(np.float32)
            eye.forward = forward.astype(np.float32)
            eye.up = (up / np.linalg.norm(up)).astype(np.float32)
            eye.frustum_center, eye.frustum_width = 0.0, top
            eye.frustum_bottom, eye.frustum_top = -top, top
            eye.frustum_near, eye.frustum_far = NEAR, FAR


def rotation_matrix(rotation: Vector) -> NDArray[np.float64]:
    """The matrix (3, 3) of turns by degrees about the fixed x, then y, then z axis."""
    (cx, cy, cz), (sx, sy, sz) = (f(np.radians(rotation)) for f in (np.cos, np.sin))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    turned: NDArray[np.float64] = about_z @ about_y @ about_x
    return turned


def _full_size(geom: Geom) -> NDArray[np.float64]:
    """Sizes as a MuJoCo model has them; mjv_initGeom spreads (radius, half-length) itself."""
    size = geom.size
    if geom.kind == "sphere":
        size = (size[0],) * 3
    elif geom.kind in ("cylinder", "capsule"):
        size = (size[0], size[1], 0.0)
    return np.array(size, dtype=np.float64)


def _open_gl(size: int, roundness: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """MuJoCo, an OpenGL context, the model and its textures, by the first binding that works.

    Raises:
        RenderError: None works.
    """
    failures = []
    for name in backends():
        try:
            return _bind(name, size, roundness)
        except (ImportError, AttributeError, RuntimeError, OSError) as error:
            failures.append(f"{name}: {' '.join(str(error).split())}")
            _forget_bindings()
    hint = (
        "install an OpenGL that draws without a screen, then repeat the command: "
        "apt install libegl1 libgl1-mesa-dri (or libosmesa6)"
    )
    if os.environ.get("MUJOCO_GL"):
        hint = "unset MUJOCO_GL, so that egl and osmesa are tried"
    raise RenderError(f"MuJoCo finds no OpenGL ({'; '.join(failures)})", hint=hint)


def _bind(name: str, size: int, roundness: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """Import MuJoCo with one binding, open a context with it and load the model into it."""
    with _variable("MUJOCO_GL", name):  # read by MuJoCo's import, and again by its first drawing
        mujoco = importlib.import_module("mujoco")
        gl = importlib.import_module(f"mujoco.{name}").GLContext(size, size)
        gl.make_current()
        slices, stacks = roundness
        xml = _MODEL.format(
            shadow=SHADOW_TEXELS, samples=N_SAMPLES, size=size, slices=slices, stacks=stacks
        )
        model = mujoco.MjModel.from_xml_string(xml)
        try:
            textures = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        except mujoco.FatalError as error:
            raise RuntimeError(str(error)) from error
    return mujoco, gl, model, textures


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """An environment variable, set for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _forget_bindings() -> None:
    """Let another binding be imported: PyOpenGL fixes its platform at the first import."""
    os.environ.pop("PYOPENGL_PLATFORM", None)
    for name in [*sys.modules]:
        if name.split(".")[0] == "OpenGL" or name in ("mujoco.egl", "mujoco.osmesa"):
            del sys.modules[name]

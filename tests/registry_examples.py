"""Records and a commented registry.yaml that the tests of the registry share."""

from ebmcli.core.factors import Factor
from ebmcli.registry import Record

DIGEST = "sha256:" + "a" * 64
COLOR = Factor(name="color", kind="categorical", names=("red", "green", "blue"))


def record(name: str = "color", **fields: object) -> Record:
    given = {
        "kind": "concept", "name": name, "space": "scenes-64", "sha256": DIGEST,
        "file": f"checkpoints/{name}.safetensors", "factor": COLOR, "method": "posterior",
    }  # fmt: skip
    return Record(**{**given, **fields})  # type: ignore[arg-type]


def base(name: str) -> Record:
    return record(name, kind="base", factor=None, method=None, file=f"checkpoints/base-{name}")


def entry(name: str, *, indent: str = "  ", note: str = "") -> str:
    lines = [f"{name}:{note}", "  space: scenes-64", f"  file: {name}.safetensors"]
    return "".join(f"{indent}{line}\n" for line in [*lines, f"  sha256: {DIGEST}"])


COMMENTED = f"""\
# at the top
schema: 1

# about bases
bases:
  # before first
{entry("first", note="  # beside first")}
  # before second
{entry("second")}    # inside second, at its end

# about concepts
concepts: {{}}

# about judges
judges:
{entry("judge")}
# at the end
"""

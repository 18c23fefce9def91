"""Graphs of a backbone, or of a backbone and its neck, for images of any height and width.

    torch_export   a program for `torch.export.load`
    onnx           a file for onnxruntime and others

Both take `image`, [B, 3, H, W] with any B, H and W from a least size on, and return the maps of the
module, in ONNX `map0`, `map1`, ... A map is the module's own: nothing is resized or cut.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mmplugins.engine.inputs import InputError
from mmplugins.models.vit import ViT
from mmplugins.position_encodings.base import PositionEncoding

Size = tuple[int, int]
Save = Callable[[nn.Module, Size, Path], None]

# Sides in patches of the traced image: primes, so that it is no special case of any window.
TRACED = (101, 103)
PYRAMID = (4, 4)  # the coarsest map of a neck has a fourth of the rows and columns of its input
MOST_BYTES = 2**31 - 2**20  # a file of protocol buffers ends before 2 GiB
TOLERANCE = 1e-3


class Graph(nn.Module):
    """What is traced: the maps of a module, in evaluation mode, as a tuple."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self.patch = max((vit.patch_embed.patch_size[0] for vit in _vits(module)), default=1)
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """The maps."""
        # As the ViT itself does, but in shorter terms of H and W, from which all others follow.
        patch, (rows, cols) = self.patch, image.shape[2:]
        height, width = ((side + patch - 1) // patch * patch for side in (rows, cols))
        return tuple(self.module(F.pad(image, (0, width - cols, 0, height - rows))))


def save_program(module: nn.Module, image_size: Size, file: Path) -> None:
    """Write a program for `torch.export.load` that equals `module` at sizes it was not traced for.

    Raises:
        InputError: what of the module cannot be exported.
    """
    program = export_program(module)
    _accept(check_program(program, module, untraced_sizes(module, image_size)), module)
    write_program(program, file)


def save_onnx(module: nn.Module, image_size: Size, file: Path) -> None:
    """Write one file for onnxruntime that equals `module` at sizes it was not traced for.

    Raises:
        InputError: a package that lacks, or what of the module cannot be exported.
    """
    _need("onnx", "onnxscript", "onnxruntime")
    export_onnx(export_program(module), file)
    _accept(check_onnx(file, module, untraced_sizes(module, image_size)), module)


GRAPHS: dict[str, tuple[str, Save]] = {
    "onnx": (".onnx", save_onnx),
    "torch_export": (".pt2", save_program),
}


def export_program(module: nn.Module) -> ExportedProgram:
    """The graph of `module` in evaluation mode, for images of at least `least_size`.

    Raises:
        InputError: something that acts differently at different sizes.
    """
    height, width = least_size(module)
    dims = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC(min=height), 3: Dim.DYNAMIC(min=width)}
    graph, like = Graph(module), next(module.parameters())
    # Not quite whole patches, so that filling them up is a part of the graph.
    sides = (side * graph.patch - (graph.patch > 1) for side in TRACED)
    image = torch.zeros(2, 3, *sides, dtype=like.dtype, device=like.device)
    with _quiet(), torch.no_grad():
        try:
            program = torch.export.export(graph, (image,), dynamic_shapes=(dims,), strict=False)
        except Exception as error:  # of many types, none of them public
            raise InputError(f"torch.export cannot trace {_told(module)}: {error}") from error
    program.example_inputs = None  # the image would be most of the file
    return program


def export_onnx(program: ExportedProgram, file: Path) -> None:
    """Write a program as one file of ONNX.

    Raises:
        InputError: a package that lacks, weights beyond 2 GiB, or an operation that ONNX lacks.
    """
    _need("onnx", "onnxscript")
    size = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    if size > MOST_BYTES:
        raise InputError(
            f"onnx: one file holds less than 2 GiB, the weights have {size / 2**30:.1f}: "
            "use torch_export"
        )
    names = [f"map{number}" for number in range(len(program.graph_signature.user_outputs))]
    with _quiet(), torch.no_grad():
        try:
            torch.onnx.export(
                program,
                (),
                file,
                input_names=["image"],
                output_names=names,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise InputError(f"ONNX cannot express it: {error.__cause__ or error}") from error


def write_program(program: ExportedProgram, file: Path) -> None:
    """Write a program for `torch.export.load`."""
    content = BytesIO()  # torch's own writer of files aborts the process where the disk is full
    torch.export.save(program, content)
    file.write_bytes(content.getbuffer())


def check_program(program: ExportedProgram, module: nn.Module, sizes: Sequence[Size]) -> float:
    """The largest difference of a program and `module`, relative to each map's largest value."""
    return _difference(program.module(), module, sizes)


def check_onnx(file: Path, module: nn.Module, sizes: Sequence[Size]) -> float:
    """The same of a file of ONNX, as onnxruntime runs it on the CPU.

    Raises:
        InputError: onnxruntime lacks.
    """
    _need("onnxruntime")
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> list[Tensor]:
        maps = session.run(None, {"image": image.cpu().numpy()})
        return [torch.from_numpy(one).to(image.device) for one in maps]

    return _difference(run, module, sizes)


def least_size(module: nn.Module) -> Size:
    """(height, width) in pixels from which on a graph serves: no map or window is a line.

    To torch, a side of one is no size like any other: it would need a graph of its own.
    """
    least = [(1, 1) if isinstance(module, ViT) else PYRAMID]
    least += [block.window for vit in _vits(module) for block in vit.blocks if block.window]
    patch = Graph(module).patch
    height, width = (patch * max(sides) + 1 for sides in zip(*least, strict=True))
    return height, width


def untraced_sizes(module: nn.Module, image_size: Size) -> list[Size]:
    """Two sizes to check a graph at: one lying, one standing, of no whole patches."""
    (height, width), (rows, cols) = image_size, least_size(module)
    return [
        (max(height // 2 + 3, rows), max(width - 5, cols + rows)),
        (max(height - 3, rows + cols), max(width // 2 + 5, cols)),
    ]


def _difference(
    run: Callable[[Tensor], Sequence[Tensor]], module: nn.Module, sizes: Sequence[Size]
) -> float:
    module.eval()  # returns nothing of the hosts' ResNets
    differences, like = [], next(module.parameters())
    random = torch.Generator().manual_seed(0)
    for batch, size in enumerate(sizes, 1):
        image = torch.randn(batch, 3, *size, generator=random).to(like)
        with torch.no_grad():
            expected = tuple(module(image))
            try:
                maps = run(image)
            except (
                Exception
            ) as error:  # of many types: a condition on sizes, an operation that fails
                raise InputError(
                    f"the graph of {_told(module)} does not run at {size[0]} x {size[1]}: {error}"
                ) from error
        for one, right in zip(maps, expected, strict=True):
            if one.shape != right.shape:
                return float("inf")
            scale = right.abs().max().clamp(min=torch.finfo(right.dtype).tiny)
            differences.append((one - right).abs().max() / scale)
    return torch.stack(differences).max().item()  # NaN if one is; max() of Python passes it over


def _accept(difference: float, module: nn.Module) -> None:
    if not difference < TOLERANCE:  # NaN neither
        raise InputError(
            f"the graph of {_told(module)} differs from the model by {difference:.1e}, "
            f"more than {TOLERANCE:.0e} of a map's largest value"
        )


def _vits(module: nn.Module) -> list[ViT]:
    return [child for child in module.modules() if isinstance(child, ViT)]


def _told(module: nn.Module) -> str:
    """A module and its encodings, for messages."""
    found = {
        type(child).__name__ for child in module.modules() if isinstance(child, PositionEncoding)
    }
    return " with ".join([type(module).__name__, ", ".join(sorted(found))][: 1 + bool(found)])


def _need(*packages: str) -> None:
    """Refuse to go on without the optional packages of this format."""
    if lacking := [name for name in packages if find_spec(name) is None]:
        names = ", ".join(lacking)
        raise InputError(f"onnx: not installed: {names}; pip install 'mmplugins[export]'")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's notes on inequalities of sizes that it need not solve."""
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)

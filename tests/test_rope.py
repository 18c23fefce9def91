"""RoPE beside complex numbers and timm, and what it keeps: norms and displacements."""

import cmath

import pytest
import torch
from timm.layers import RotaryEmbeddingCat, RotaryEmbeddingMixed, apply_rot_embed_cat

from mmplugins.grid import TokenGrid
from mmplugins.position_encodings import Dims, RoPE

HEADS, D = 2, 8
OPTIONS = [
    dict(variant=variant, coords=coords)
    for variant in ("axial", "mixed")
    for coords in ("index", "normalized")
]
each_option = pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o.values()))


def make(*, grid=(4, 5), prefix=0, **options) -> RoPE:
    dims = Dims(embed_dims=HEADS * D, num_heads=HEADS, depth=1, grid=grid, prefix=prefix)
    return RoPE(dims, **options).double()


def draw(grid: TokenGrid, batch=1) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys."""
    return torch.randn(2, batch, HEADS, grid.num_tokens, D, dtype=torch.float64)


def frequencies(rope: RoPE, head: int) -> list[tuple[float, float]]:
    """(omega^x, omega^y) of each pair of components."""
    if rope.freqs is not None:
        return [tuple(column) for column in rope.freqs[:, head].T.tolist()]
    sizes = [100 ** (-4 * t / D) for t in range(D // 4)]
    return [(size, 0.0) for size in sizes] + [(0.0, size) for size in sizes]


def rotated(t: torch.Tensor, rope: RoPE, head: int, x: float, y: float) -> list[float]:
    """One vector, its pairs as complex numbers."""
    out = []
    for c, (omega_x, omega_y) in enumerate(frequencies(rope, head)):
        turned = complex(t[2 * c], t[2 * c + 1]) * cmath.exp(1j * (x * omega_x + y * omega_y))
        out += [turned.real, turned.imag]
    return out


@each_option
@pytest.mark.parametrize(("height", "width"), [(4, 5), (3, 7), (8, 10), (1, 1)])
def test_it_is_a_product_of_complex_numbers(options, height, width):
    """On the training grid of 4 x 5 and on others; two prefix tokens stay as they are."""
    rope, grid = make(prefix=2, **options), TokenGrid(height, width, 2)
    q, k = draw(grid)
    for before, after in zip((q, k), rope.rotate(q, k, grid), strict=True):
        assert torch.equal(before[:, :, :2], after[:, :, :2])
        for head in range(HEADS):
            for y in range(height):
                for x in range(width):
                    place = x, y
                    if options["coords"] == "normalized":
                        place = (x + 0.5) * 5 / width - 0.5, (y + 0.5) * 4 / height - 0.5
                    token = 2 + y * width + x
                    expected = rotated(before[0, head, token], rope, head, *place)
                    torch.testing.assert_close(
                        after[0, head, token], torch.tensor(expected, dtype=torch.float64)
                    )


@each_option
def test_the_valid_region_is_what_is_stretched(options):
    """3 x 2 patches in the middle of 5 x 6: as if alone, but for a common turn with index."""
    valid = torch.zeros(1, 5, 6, dtype=torch.bool)
    valid[:, 1:4, 2:4] = True
    rope, inside, alone = make(**options), valid.flatten(), TokenGrid(3, 2)
    q, k = draw(TokenGrid(5, 6))
    q_out, k_out = rope.rotate(q, k, TokenGrid(5, 6, valid=valid.flatten(1)))
    q_alone, k_alone = rope.rotate(q[:, :, inside], k[:, :, inside], alone)
    same = torch.allclose(q_out[:, :, inside], q_alone)
    assert same == (options["coords"] == "normalized")
    logits = q_out[:, :, inside] @ k_out[:, :, inside].transpose(-1, -2)
    torch.testing.assert_close(logits, q_alone @ k_alone.transpose(-1, -2))


@each_option
def test_logits_depend_on_displacements_alone(options):
    """The same q and the same k everywhere: each displacement has its logit."""
    rope, grid = make(**options), TokenGrid(4, 5)
    q, k = (t[:, :, :1].expand(-1, -1, 20, -1) for t in draw(grid))
    q, k = rope.rotate(q, k, grid)
    logits = (q @ k.transpose(-1, -2))[0]  # [h, N, N]
    seen = {}
    for i, (y, x) in enumerate(grid.coords.tolist()):
        for j, (y_key, x_key) in enumerate(grid.coords.tolist()):
            logit = seen.setdefault((y - y_key, x - x_key), logits[:, i, j])
            torch.testing.assert_close(logits[:, i, j], logit, rtol=0, atol=1e-12)
    assert torch.stack(list(seen.values())).std(0).min() > 0.1


@each_option
def test_norms_of_pairs_are_kept(options):
    rope, grid = make(prefix=1, **options), TokenGrid(7, 3, 1)
    q, k = draw(grid)
    for before, after in zip((q, k), rope.rotate(q, k, grid), strict=True):
        norms = (t.unflatten(-1, (-1, 2)).norm(dim=-1) for t in (before, after))
        torch.testing.assert_close(*norms)


@pytest.mark.parametrize(("height", "width"), [(4, 5), (9, 3)])
def test_axial_is_timms(height, width):
    rope, grid = make().float(), TokenGrid(height, width)
    stock = RotaryEmbeddingCat(D, in_pixels=False, grid_indexing="xy", temperature=100.0)
    q, k = (t.float() for t in draw(grid))
    wave = stock.get_embed([height, width])
    for before, after in zip((q, k), rope.rotate(q, k, grid), strict=True):
        torch.testing.assert_close(after, apply_rot_embed_cat(before, wave), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(4, 5), (9, 3)])
def test_mixed_is_timms_with_the_same_frequencies(height, width):
    rope, grid = make(variant="mixed").float(), TokenGrid(height, width)
    stock = RotaryEmbeddingMixed(HEADS * D, depth=1, num_heads=HEADS, grid_indexing="xy")
    rope.load_state_dict({"freqs": stock.freqs[:, 0]})
    q, k = (t.float() for t in draw(grid))
    wave = stock.get_embed([height, width])[0]
    for before, after in zip((q, k), rope.rotate(q, k, grid), strict=True):
        torch.testing.assert_close(after, apply_rot_embed_cat(before, wave), rtol=0, atol=2e-6)


def test_mixed_starts_with_two_orthogonal_directions_a_head():
    dims = Dims(embed_dims=12 * 16, num_heads=12, depth=1, grid=(4, 5))
    freqs = RoPE(dims, variant="mixed", temperature=7.0).double().freqs.detach()
    first, second = freqs.chunk(2, dim=-1)  # [2, h, d/4]
    size = torch.tensor([7 ** (-4 * t / 16) for t in range(4)]).expand(12, -1).double()
    torch.testing.assert_close(first.norm(dim=0), size, rtol=0, atol=1e-6)
    torch.testing.assert_close(second.norm(dim=0), size, rtol=0, atol=1e-6)
    torch.testing.assert_close((first * second).sum(0), 0 * size, rtol=0, atol=1e-6)
    angle = torch.atan2(first[1], first[0])
    torch.testing.assert_close(angle, angle[:, :1].expand(-1, 4), rtol=0, atol=1e-6)
    quadrants = (angle[:, 0] / (torch.pi / 2)).floor().unique()
    assert len(quadrants) == 4  # twelve heads, seeded: the whole circle
    # A quarter turn onwards, not back.
    torch.testing.assert_close(torch.stack([-first[1], first[0]]), second, rtol=0, atol=1e-6)


@each_option
def test_half_precision_comes_in_and_goes_out_alone(options):
    """Places beyond 256 are no bfloat16 numbers: positions and rotation are in single precision."""
    rope, grid = make(**options).float(), TokenGrid(2, 300)
    q, k = (t.bfloat16() for t in draw(grid))
    out = rope.rotate(q, k, grid)
    precise = rope.rotate(q.float(), k.float(), TokenGrid(2, 300))
    for low, high in zip(out, precise, strict=True):
        assert torch.equal(low, high.bfloat16())


def test_layers_share_the_axial_rotation(monkeypatch):
    grid = TokenGrid(4, 5)
    make().rotate(*draw(grid), grid)
    monkeypatch.delattr(TokenGrid, "places")
    make().rotate(*draw(grid), grid)
    for other in (dict(temperature=50.0), dict(coords="normalized"), dict(variant="mixed")):
        with pytest.raises(AttributeError, match="places"):
            make(**other).rotate(*draw(grid), grid)


@pytest.mark.parametrize(
    ("dims", "options", "message"),
    [
        (dict(embed_dims=12, num_heads=2), {}, "RoPE: .* divisible by 4, not 6"),
        (
            dict(embed_dims=8, num_heads=2),
            dict(temperature=0.0),
            "temperature must be positive, not 0.0",
        ),
    ],
)
def test_what_cannot_be_is_refused(dims, options, message):
    with pytest.raises(ValueError, match=message):
        RoPE(Dims(**dims, depth=1, grid=(4, 5)), **options)

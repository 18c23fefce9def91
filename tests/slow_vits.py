"""ViTs with the encodings of papers under their authors' names, in slow loops from the formulas.

Written for the tests of checkpoints; nothing of it is shared with the package.
"""

import math
from functools import cache

import torch
from torch import Tensor, nn

PATCH, EMBED, HEADS, DEPTH = 4, 16, 2, 2
HALF = EMBED // HEADS // 2


def numbers(*shape: int) -> nn.Parameter:
    return nn.Parameter(0.5 * torch.randn(*shape))


class Attention(nn.Module):
    """Softmax attention; those of papers add to it."""

    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(EMBED, 3 * EMBED), nn.Linear(EMBED, EMBED)

    def forward(self, x: Tensor, grid: tuple[int, int], phase: Tensor | None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        if phase is not None:
            q, k = turned(q, phase), turned(k, phase)
        s = q.shape[-1] ** -0.5
        logits = s * q @ k.mT + self.added(s, q, k, v, grid)
        p = logits.softmax(-1)
        return self.proj((p @ v + self.summed(p, grid)).transpose(1, 2).flatten(2))

    def added(self, s, q, k, v, grid):
        return 0.0

    def summed(self, p, grid):
        return 0.0


class Block(nn.Module):
    def __init__(self, attention: nn.Module, *, factors: bool, used: bool):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(EMBED, eps=1e-6), nn.LayerNorm(EMBED, eps=1e-6)
        self.attn, self.mlp = attention, nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(EMBED, 4 * EMBED), nn.Linear(4 * EMBED, EMBED)
        self.used = used
        if factors:
            self.gamma_1, self.gamma_2 = numbers(EMBED), numbers(EMBED)

    def forward(self, x, grid, phase):
        one, two = (self.gamma_1, self.gamma_2) if self.used else (1, 1)
        x = x + one * self.attn(self.norm1(x), grid, phase)
        return x + two * self.mlp.fc2(nn.functional.gelu(self.mlp.fc1(self.norm2(x))))


class SlowViT(nn.Module):
    """Its output is the map of the last block, normalised.

    Args:
        attentions: of the blocks.
        rows: rows of the table for tokens in front; None for no table.
        grid: of the table.
        factors: LayerScale's among the weights.
        used: and in use.
    """

    def __init__(self, attentions, *, rows, grid, factors=False, used=False):
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, EMBED, PATCH, PATCH)
        self.cls_token = numbers(1, 1, EMBED)
        if rows is not None:
            self.pos_embed = numbers(1, rows + grid[0] * grid[1], EMBED)
        self.rows, self.norm = rows, nn.LayerNorm(EMBED, eps=1e-6)
        self.blocks = nn.ModuleList(Block(a, factors=factors, used=used) for a in attentions)
        self.head = nn.Linear(EMBED, 5)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.4)

    def phases(self, grid) -> list[Tensor | None]:
        return DEPTH * [None]

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch_embed.proj(image)
        grid = x.shape[2:]
        x = x.flatten(2).mT
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        if self.rows is not None:
            x = x + torch.cat([x.new_zeros(1, 1 - self.rows, EMBED), self.pos_embed], dim=1)
        for block, phase in zip(self.blocks, self.phases(grid), strict=True):
            x = block(x, grid, phase)
        return self.norm(x)[:, 1:].mT.unflatten(2, grid)


# iRPE, https://arxiv.org/abs/2107.14222, eq. 13 to 26


def index(x: float, ratio: float) -> int:
    """Eq. 18."""
    if abs(x) <= ratio:
        return round(x)
    far = ratio + math.log(abs(x) / ratio) / math.log(8) * ratio
    return int(math.copysign(min(2 * ratio, round(far)), x))


@cache
def bucket(dy: int, dx: int, method: str, ratio: float) -> int:
    last = int(2 * ratio)
    return {
        "product": (index(dy, ratio) + last) * (2 * last + 1) + index(dx, ratio) + last,
        "euclidean": index(round(math.hypot(dy, dx)), ratio) + last,
        "quantisation": index(dy * dy + dx * dx, ratio) + last,
        "rows": index(dy, ratio) + last,
        "cols": index(dx, ratio) + last,
    }[method]


def buckets(grid, method: str, ratio: float) -> Tensor:
    """B(i, j) of all tokens, those of the class token the last bucket."""
    places = [(y, x) for y in range(grid[0]) for x in range(grid[1])]
    last = count(method, ratio)
    table = [[last] * (1 + len(places))]
    for y, x in places:
        table.append([last] + [bucket(y - b, x - a, method, ratio) for b, a in places])
    return torch.tensor(table)


def count(method: str, ratio: float) -> int:
    return (2 * int(2 * ratio) + 1) ** (2 if method == "product" else 1)


class Tables(nn.Module):
    def __init__(self, kind: str, *shape: int):
        super().__init__()
        self.register_parameter(f"lookup_table_{kind}", numbers(*shape))


class IRPEAttention(Attention):
    def __init__(self, *, on="k", method="product", mode="contextual", shared=True, ratio=1.9):
        super().__init__()
        self.ratio, self.mode, self.method = ratio, mode, method
        self.methods = {"cross": {"rp_rows": "rows", "rp_cols": "cols"}}.get(method, {"": method})
        heads, d = 1 if shared else HEADS, EMBED // HEADS
        for side in on:
            made = {}
            for part, each in self.methods.items():
                many = 1 + count(each, ratio)
                kind = "bias" if mode == "bias" else "weight"
                full = {"q": (heads, d, many), "k": (heads, d, many), "v": (heads, many, d)}[side]
                made[part] = Tables(kind, *((heads, many) if mode == "bias" else full))
            module = made.get("", nn.ModuleDict(made) if "" not in made else None)
            setattr(self, f"rpe_{side}", module)

    def tables(self, side: str, grid):
        module = getattr(self, f"rpe_{side}", None)
        for part, each in self.methods.items() if module is not None else ():
            table = next((module[part] if part else module).parameters())
            yield table, buckets(grid, each, self.ratio)

    def added(self, s, q, k, v, grid):
        total = torch.zeros_like(q @ k.mT)
        for table, b in self.tables("k", grid):
            if self.mode == "bias":
                total = total + table[:, b]
            else:
                total = total + s * torch.einsum("bhid,hdij->bhij", q, whole(table)[:, :, b])
        for table, b in self.tables("q", grid):
            if self.mode == "bias":
                total = total + table[:, b.mT]
            else:
                total = total + s * torch.einsum("bhjd,hdij->bhij", k, whole(table)[:, :, b.mT])
        return total

    def summed(self, p, grid):
        return sum(
            torch.einsum("bhij,hijd->bhid", p, whole(table)[:, b])
            for table, b in self.tables("v", grid)
        )


def whole(table: Tensor) -> Tensor:
    return table.expand(HEADS, -1, -1)


# RoPE, https://arxiv.org/abs/2403.13298


def turned(t: Tensor, phase: Tensor) -> Tensor:
    """Pairs of neighbouring channels as complex numbers; the class token is not turned."""
    point = torch.view_as_complex(t[:, :, 1:].unflatten(-1, (-1, 2)).contiguous())
    wave = torch.polar(torch.ones_like(phase), phase)
    return torch.cat([t[:, :, :1], torch.view_as_real(point * wave).flatten(-2)], dim=2)


class RopeViT(SlowViT):
    """The variant mixed; axial where `mixed` is False."""

    def __init__(self, *, mixed: bool, ape: bool, grid):
        attentions = [Attention() for _ in range(DEPTH)]
        super().__init__(attentions, rows=0 if ape else None, grid=grid, factors=True, used=True)
        self.mixed = mixed
        if mixed:
            self.freqs = numbers(2, DEPTH, HEADS * HALF)
            places = [(float(x), float(y)) for y in range(grid[0]) for x in range(grid[1])]
            for number, axis in enumerate("xy"):
                self.register_buffer(f"freqs_t_{axis}", torch.tensor(places)[:, number])

    def phases(self, grid):
        if self.mixed:
            split = self.freqs.unflatten(2, (HEADS, HALF))
            omegas = [(split[0, i], split[1, i]) for i in range(DEPTH)]
        else:
            size = [100 ** (-2 * t / HALF) for t in range(HALF // 2)]
            x, y = size + [0] * (HALF // 2), [0] * (HALF // 2) + size
            omegas = DEPTH * [(self.norm.weight.new_tensor([x]), self.norm.weight.new_tensor([y]))]
        return [
            torch.stack(
                [x * along + y * across for y in range(grid[0]) for x in range(grid[1])], dim=1
            )
            for along, across in omegas
        ]


# SaPE2, https://arxiv.org/abs/2505.09466, eq. 9 to 15, as its authors' code has it


class Line(nn.Module):
    """One axis; `sep` forms the keys of its gates by `w_k`, `operand` meets the table."""

    def __init__(self, positions: int, operand: str, sep: bool):
        super().__init__()
        d = EMBED // HEADS
        self.pos_emb = numbers(1, d, positions)
        self.w_k = numbers(1, d, d)
        self.operand, self.sep = operand, sep

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        """[n, d] each, the tokens of a line, to [n, n]: row i holds z_i."""
        key = k @ self.w_k[0] if self.sep else k
        rows = []
        for i in range(len(q)):
            gates = torch.sigmoid(key @ q[i] * q.shape[1] ** -0.5)
            content = (q if self.operand == "q" else key)[i] @ self.pos_emb[0]
            row = []
            for m in range(len(q)):
                place = gates[m:].sum().clamp(max=len(content) - 1)
                low, high = int(place.floor()), int(place.ceil())
                row.append((1 - (place - low)) * content[low] + (place - low) * content[high])
            rows.append(torch.stack(row))
        return torch.stack(rows)


class CopeAttention(Attention):
    def __init__(self, *, positions=3, operand="k", sep=False):
        super().__init__()
        self.cope = nn.Module()
        self.cope.cope_x, self.cope.cope_y = (Line(positions, operand, sep) for _ in range(2))
        self.cope.norm = nn.LayerNorm(EMBED // HEADS)

    def added(self, s, q, k, v, grid):
        height, width = grid
        total = torch.zeros_like(q @ k.mT)
        for b in range(len(q)):
            for h in range(HEADS):
                queries, keys = (t[b, h, 1:].unflatten(0, grid) for t in (q, k))
                x = [self.cope.cope_x(queries[y], keys[y]) for y in range(height)]
                y = [self.cope.cope_y(queries[:, x], keys[:, x]) for x in range(width)]
                for z in (torch.stack(x).flatten(0, 1), torch.stack(y, dim=1).flatten(0, 1)):
                    distance = [[(one - other).norm() for other in z] for one in z]
                    total[b, h, 1:, 1:] += torch.stack([torch.stack(row) for row in distance])
        return total

"""DETR, with iRPE or without, written from the papers' formulas under the authors' names.

https://arxiv.org/abs/2005.12872, https://arxiv.org/abs/2107.14222. For tests of conversion: slow,
without dropout, and with loops over all pairs of tokens for the buckets.
"""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

HEADS, DIMS, HIDDEN, LAYERS, QUERIES = 4, 32, 64, 2, 7
WIDTHS = (4, 8, 16, 32)


def piecewise(x, ratio):
    """G of eq. 18, for one number."""
    alpha, beta, gamma = ratio, 2 * ratio, 8 * ratio
    if abs(x) <= alpha:
        return round(x)
    far = alpha + math.log(abs(x) / alpha) / math.log(gamma / alpha) * (beta - alpha)
    return int(math.copysign(min(beta, round(far)), x))


def bucket(dy, dx, method, ratio):
    """The authors' bucket of query minus key."""
    last = int(2 * ratio)
    return {
        "product": (piecewise(dy, ratio) + last) * (2 * last + 1) + piecewise(dx, ratio) + last,
        "rows": piecewise(dy, ratio) + last,
        "cols": piecewise(dx, ratio) + last,
        "euclidean": piecewise(round(math.hypot(dy, dx)), ratio) + last,
        "quantisation": piecewise(dy**2 + dx**2, ratio) + last,
    }[method]


def pair_buckets(grid, method, ratio):
    """[N, N] for all pairs (query, key)."""
    tokens = [(y, x) for y in range(grid[0]) for x in range(grid[1])]
    return torch.tensor(
        [[bucket(a[0] - b[0], a[1] - b[1], method, ratio) for b in tokens] for a in tokens]
    )


class Table(nn.Module):
    """One table, `lookup_table_weight` or `lookup_table_bias`."""

    def __init__(self, side, method, mode, shared_heads, ratio):
        super().__init__()
        self.method, self.ratio = method, ratio
        length = 2 * int(2 * ratio) + 1
        count = length**2 if method == "product" else length
        heads = 1 if shared_heads else HEADS
        shape = (heads, count, DIMS // HEADS) if side == "v" else (heads, DIMS // HEADS, count)
        name = "lookup_table_bias" if mode == "bias" else "lookup_table_weight"
        self.register_parameter(
            name, nn.Parameter(torch.empty(shape[::2] if mode == "bias" else shape))
        )


class Cross(nn.Module):
    """Tables of rows and of columns, whose terms add."""

    def __init__(self, side, *options):
        super().__init__()
        self.rp_rows, self.rp_cols = Table(side, "rows", *options), Table(side, "cols", *options)


def tables_of(rpe):
    return [module for module in rpe.modules() if isinstance(module, Table)]


class Attention(nn.MultiheadAttention):
    """Self-attention with iRPE on the sides `on`; `mirrored` reads keys for queries, wrongly."""

    def __init__(self, irpe=None, mirrored=False):
        super().__init__(DIMS, HEADS)
        self.mirrored = mirrored
        for side in (irpe or {}).get("on", ""):
            options = irpe["mode"], irpe["shared_heads"], irpe["ratio"]
            cross = irpe["method"] == "cross"
            rpe = Cross(side, *options) if cross else Table(side, irpe["method"], *options)
            self.add_module(f"rpe_{side}", rpe)

    def forward(self, x, pos, padded, grid):
        projected = [x + pos, x + pos, x]
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, *linear).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for x, *linear in zip(projected, weights, biases, strict=True)
        )
        scale = q.shape[-1] ** -0.5
        q, scaled_k = q * scale, k * scale
        logits = q @ k.mT
        for side, content in (("k", q), ("q", scaled_k)):
            for table in self.tables(side):
                # [h, d, N, N] of (reading token, token read)
                ids = self.ids(table, grid)
                if hasattr(table, "lookup_table_bias"):
                    term = table.lookup_table_bias[:, ids].expand(len(x), HEADS, -1, -1)
                else:
                    vectors = table.lookup_table_weight[..., ids].expand(HEADS, -1, -1, -1)
                    term = torch.einsum("bhid,hdij->bhij", content, vectors)
                logits = logits + (term if side == "k" else term.mT)
        logits = logits.masked_fill(padded[:, None, None], -math.inf)
        probs = logits.softmax(-1)
        out = probs @ v
        for table in self.tables("v"):
            vectors = table.lookup_table_weight[:, self.ids(table, grid)].expand(HEADS, -1, -1, -1)
            out = out + torch.einsum("bhij,hijd->bhid", probs, vectors)
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def tables(self, side):
        return tables_of(getattr(self, f"rpe_{side}", nn.Module()))

    def ids(self, table, grid):
        ids = pair_buckets(grid, table.method, table.ratio)
        return ids.T if self.mirrored else ids


class EncoderLayer(nn.Module):
    def __init__(self, **attention):
        super().__init__()
        self.self_attn = Attention(**attention)
        self.linear1, self.linear2 = nn.Linear(DIMS, HIDDEN), nn.Linear(HIDDEN, DIMS)
        self.norm1, self.norm2 = nn.LayerNorm(DIMS), nn.LayerNorm(DIMS)

    def forward(self, x, pos, padded, grid):
        x = self.norm1(x + self.self_attn(x, pos, padded, grid))
        return self.norm2(x + self.linear2(self.linear1(x).relu()))


class DecoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(DIMS, HEADS, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(DIMS, HEADS, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(DIMS, HIDDEN), nn.Linear(HIDDEN, DIMS)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(DIMS) for _ in range(3))

    def forward(self, x, query, memory, pos, padded):
        x = self.norm1(x + self.self_attn(x + query, x + query, x)[0])
        read = self.multihead_attn(x + query, memory + pos, memory, key_padding_mask=padded)[0]
        x = self.norm2(x + read)
        return self.norm3(x + self.linear2(self.linear1(x).relu()))


def sine(padded):
    """[B, C, H, W] of valid tokens counted from one, scaled to one period."""
    valid = (~padded).double()
    codes = []
    for dim in (1, 2):
        count = valid.cumsum(dim)
        place = 2 * math.pi * count / (count.select(dim, -1).unsqueeze(dim) + 1e-6)
        index = torch.arange(DIMS // 4, dtype=torch.float64)
        phase = place[..., None] / 10000 ** (4 * index / DIMS)
        codes.append(torch.stack([phase.sin(), phase.cos()], -1).flatten(-2))
    return torch.cat(codes, -1).movedim(-1, 1)


def resnet():
    """Blocks of torchvision, narrow, with batch norms that are constants."""
    from torchvision.models.resnet import BasicBlock, conv1x1
    from torchvision.ops import FrozenBatchNorm2d

    body, before = nn.Sequential(), WIDTHS[0]
    body.add_module("conv1", nn.Conv2d(3, before, 7, 2, 3, bias=False))
    body.add_module("bn1", FrozenBatchNorm2d(before))
    body.append(nn.ReLU())
    body.append(nn.MaxPool2d(3, 2, 1))
    for number, width in enumerate(WIDTHS, start=1):
        stride = 1 if number == 1 else 2
        shortcut = nn.Sequential(conv1x1(before, width, stride), FrozenBatchNorm2d(width))
        norm = dict(norm_layer=FrozenBatchNorm2d)
        first = BasicBlock(before, width, stride, shortcut if number > 1 else None, **norm)
        stage = nn.Sequential(first, BasicBlock(width, width, **norm))
        body.add_module(f"layer{number}", stage)
        before = width
    return body


class Official(nn.Module):
    """The whole detector; `rows` of its head, no object included."""

    def __init__(self, rows, **attention):
        super().__init__()
        backbone = nn.Module()
        backbone.body = resnet()
        self.backbone = nn.ModuleList([backbone])
        self.input_proj = nn.Conv2d(WIDTHS[-1], DIMS, 1)
        self.transformer, encoder, decoder = nn.Module(), nn.Module(), nn.Module()
        encoder.layers = nn.ModuleList(EncoderLayer(**attention) for _ in range(LAYERS))
        decoder.layers = nn.ModuleList(DecoderLayer() for _ in range(LAYERS))
        decoder.norm = nn.LayerNorm(DIMS)
        self.transformer.encoder, self.transformer.decoder = encoder, decoder
        self.query_embed = nn.Embedding(QUERIES, DIMS)
        self.class_embed = nn.Linear(DIMS, rows)
        self.bbox_embed = nn.Module()
        sizes = [DIMS, DIMS, DIMS, 4]
        self.bbox_embed.layers = nn.ModuleList(map(nn.Linear, sizes, sizes[1:]))
        generator = torch.Generator().manual_seed(0)
        for name, tensor in self.state_dict().items():
            if tensor.ndim > 1:
                std = 1.0 if "rpe_" in name or "query" in name else tensor[0].numel() ** -0.5
                tensor.normal_(0, 1.5 * std, generator=generator)
            elif name.endswith(("weight", "running_var")):
                tensor.uniform_(0.5, 1.5, generator=generator)
            else:
                tensor.normal_(0, 0.2, generator=generator)
        self.double().eval()

    @torch.no_grad()
    def forward(self, images, padded):
        """Logits and boxes of every decoder layer; `padded` [B, H, W] in pixels."""
        feat = self.input_proj(self.backbone[0].body(images))
        grid = feat.shape[2:]
        mask = F.interpolate(padded[None].double(), size=grid)[0].bool()
        pos, mask = sine(mask).flatten(2).mT, mask.flatten(1)
        memory = feat.flatten(2).mT
        for layer in self.transformer.encoder.layers:
            memory = layer(memory, pos, mask, grid)
        query = self.query_embed.weight.expand(len(images), -1, -1)
        x, logits, boxes = torch.zeros_like(query), [], []
        for layer in self.transformer.decoder.layers:
            x = layer(x, query, memory, pos, mask)
            out = box = self.transformer.decoder.norm(x)
            for number, linear in enumerate(self.bbox_embed.layers):
                box = linear(box if number == 0 else box.relu())
            logits.append(self.class_embed(out))
            boxes.append(box.sigmoid())
        return torch.stack(logits), torch.stack(boxes)


def irpe(on="k", method="product", mode="contextual", *, shared_heads=True, ratio=2.0):
    """The config of our IRPE, of which `Official` makes the authors' tables."""
    return dict(
        type="IRPE", on=on, method=method, mode=mode, shared_heads=shared_heads, ratio=ratio
    )


@cache
def official(rows=6, mirrored=False, **options):
    """One with iRPE of these options, or without; not to be changed."""
    return Official(rows, irpe=irpe(**options) if options else None, mirrored=mirrored)

# CPVT-Ti: CPVT-S with 192 channels, and heads for as many.
_base_ = "./cpvt-s16_mln_upernet_8xb2-160k_ade20k-512x512.py"

model = dict(
    backbone=dict(arch="tiny"),
    neck=dict(in_channels=[192, 192, 192, 192], out_channels=192),
    decode_head=dict(in_channels=[192, 192, 192, 192]),
    auxiliary_head=dict(in_channels=192),
)

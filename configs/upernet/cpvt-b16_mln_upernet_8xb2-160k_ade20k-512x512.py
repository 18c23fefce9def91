# CPVT-B: CPVT-S with 768 channels, and heads for as many.
_base_ = "./cpvt-s16_mln_upernet_8xb2-160k_ade20k-512x512.py"

model = dict(
    backbone=dict(arch="base"),
    neck=dict(in_channels=[768, 768, 768, 768], out_channels=768),
    decode_head=dict(in_channels=[768, 768, 768, 768]),
    auxiliary_head=dict(in_channels=768),
)

# For small data and CPUs: ViT-Ti, heads of 64 channels, norms that need no GPU.
_base_ = "./upernet_vit_mln.py"

norm_cfg = dict(type="BN", requires_grad=True)
model = dict(
    backbone=dict(arch="tiny", drop_path_rate=0.0),
    neck=dict(in_channels=[192, 192, 192, 192], out_channels=64),
    decode_head=dict(in_channels=[64, 64, 64, 64], channels=64, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=64, channels=64, norm_cfg=norm_cfg),
)

# UperNet, ViT-Ti/16 without position encoding, on small data, with thinner heads than on ADE20K.
_base_ = [
    "../_base_/models/upernet_vit_mln.py",
    "../_base_/datasets/camvid.py",
    "../_base_/schedules/vit_160k.py",
    "../_base_/default_runtime/segmentation.py",
]

model = dict(
    data_preprocessor=dict(size=(240, 320)),
    backbone=dict(arch="tiny", img_size=(240, 320), drop_path_rate=0.0, position_encodings=[]),
    neck=dict(in_channels=[192, 192, 192, 192], out_channels=64),
    decode_head=dict(
        in_channels=[64, 64, 64, 64], channels=64, num_classes=11, norm_cfg=dict(type="BN")
    ),
    auxiliary_head=dict(in_channels=64, channels=64, num_classes=11, norm_cfg=dict(type="BN")),
)
train_cfg = dict(max_iters=300, val_interval=300)
optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type="PolyLR", eta_min=0.0, power=1.0, begin=30, end=300, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=300), logger=dict(interval=10))
auto_scale_lr = dict(base_batch_size=4)

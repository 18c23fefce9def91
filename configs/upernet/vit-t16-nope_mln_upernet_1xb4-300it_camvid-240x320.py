# UperNet, ViT-Ti/16 without position encoding; its siblings name the encoding, and nothing else.
_base_ = [
    "../_base_/models/upernet_vit_mln_slim.py",
    "../_base_/datasets/camvid.py",
    "../_base_/schedules/vit_160k.py",
    "../_base_/default_runtime/segmentation.py",
]

model = dict(
    data_preprocessor=dict(size=(240, 320)),
    backbone=dict(img_size=(240, 320), position_encodings=[]),
    decode_head=dict(num_classes=11),
    auxiliary_head=dict(num_classes=11),
)
train_cfg = dict(max_iters=300, val_interval=300)
optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type="PolyLR", eta_min=0.0, power=1.0, begin=30, end=300, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=300), logger=dict(interval=10))
auto_scale_lr = dict(base_batch_size=4)
